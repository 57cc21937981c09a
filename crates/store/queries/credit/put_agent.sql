INSERT INTO credit_agents (agent_id, owner_key, claimed_at, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT (agent_id) DO UPDATE SET owner_key = excluded.owner_key, claimed_at = excluded.claimed_at, seal = excluded.seal

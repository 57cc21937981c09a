INSERT INTO credit_agents (agent_id, owner_key, claimed_at, seal)
VALUES ($1, $2, $3, $4)

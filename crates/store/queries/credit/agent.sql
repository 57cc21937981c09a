SELECT agent_id, owner_key, claimed_at, seal
FROM credit_agents
WHERE agent_id = $1

INSERT INTO credit_intents (intent_id, agent_id, fingerprint, intent, policy_context, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

SELECT intent_id, agent_id, fingerprint, intent, policy_context, created_at, seal
FROM credit_intents
WHERE intent_id = $1

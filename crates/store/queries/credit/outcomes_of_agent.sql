SELECT outcome
FROM credit_settlements
WHERE agent_id = $3 AND created_at >= $1
ORDER BY created_at DESC, settlement_id
LIMIT $2

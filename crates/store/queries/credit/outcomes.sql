SELECT outcome
FROM credit_settlements
WHERE created_at >= $1
ORDER BY created_at DESC, settlement_id
LIMIT $2

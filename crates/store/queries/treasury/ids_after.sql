SELECT settlement_id
FROM compute_settlements
WHERE settlement_id > $1
ORDER BY settlement_id
LIMIT $2

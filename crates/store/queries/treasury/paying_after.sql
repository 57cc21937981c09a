SELECT settlement_id
FROM compute_paying
WHERE settlement_id > $1
ORDER BY settlement_id
LIMIT $2

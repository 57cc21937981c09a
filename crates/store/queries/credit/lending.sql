SELECT pool_id, lending, changed_at, seal
FROM credit_lending
WHERE pool_id = $1

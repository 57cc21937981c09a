SELECT pool_id, partition_kind, lp_id, seal
FROM liquidity_lp_accounts
WHERE pool_id = $1 AND partition_kind = $2 AND lp_id > $3
ORDER BY lp_id
LIMIT $4

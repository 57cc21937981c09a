SELECT pool_id, pool_kind, operator_id, status, config, created_at, seal
FROM liquidity_pools
WHERE pool_id = $1

INSERT INTO liquidity_pools (pool_id, pool_kind, operator_id, status, config, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

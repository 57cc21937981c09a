INSERT INTO liquidity_lp_accounts (pool_id, partition_kind, lp_id, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT (pool_id, partition_kind, lp_id) DO NOTHING

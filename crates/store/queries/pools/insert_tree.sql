INSERT INTO liquidity_pool_trees (tree_id, pool_id, partition_kind, shares_version, leaves, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

SELECT tree_id, pool_id, partition_kind, shares_version, leaves, created_at, seal
FROM liquidity_pool_trees
WHERE tree_id = $1

SELECT tree_id
FROM liquidity_pool_trees
WHERE pool_id = $1 AND partition_kind = $2 AND shares_version = $3

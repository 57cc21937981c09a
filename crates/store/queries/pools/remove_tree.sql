DELETE FROM liquidity_pool_trees
WHERE tree_id = $1 AND NOT EXISTS (SELECT 1 FROM liquidity_pool_snapshots WHERE liquidity_pool_snapshots.tree_id = $1)

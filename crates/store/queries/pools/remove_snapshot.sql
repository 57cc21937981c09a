DELETE FROM liquidity_pool_snapshots WHERE snapshot_id = $1

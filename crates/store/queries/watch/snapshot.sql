SELECT created_at,
  (SELECT as_of FROM liquidity_pool_snapshots WHERE pool_id = $1 AND partition_kind = $2
    ORDER BY as_of DESC, created_at DESC, snapshot_id DESC LIMIT 1)
FROM liquidity_pools
WHERE pool_id = $1

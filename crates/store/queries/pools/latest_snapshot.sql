SELECT snapshot_id, pool_id, partition_kind, as_of, assets_json, liabilities_json, share_price_sats,
  canonical_json_sha256, signature_json, tree_id, tree_json, created_at, seal
FROM liquidity_pool_snapshots
WHERE pool_id = $1 AND partition_kind = $2
ORDER BY as_of DESC, created_at DESC, snapshot_id DESC
LIMIT 1

SELECT snapshot_id, pool_id, partition_kind, as_of, assets_json, liabilities_json, share_price_sats,
  canonical_json_sha256, signature_json, tree_id, tree_json, created_at, seal
FROM liquidity_pool_snapshots
WHERE snapshot_id = $1

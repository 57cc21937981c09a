INSERT INTO liquidity_pool_snapshots (snapshot_id, pool_id, partition_kind, as_of, assets_json, liabilities_json, share_price_sats,
  canonical_json_sha256, signature_json, tree_id, tree_json, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (snapshot_id) DO NOTHING

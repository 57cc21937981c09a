INSERT INTO liquidity_pool_receipts (receipt_id, entity_kind, entity_id, receipt_schema, canonical_json_sha256, receipt_json, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (entity_kind, entity_id, receipt_schema) DO NOTHING

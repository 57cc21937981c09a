INSERT INTO liquidity_receipts (quote_id, receipt_schema, canonical_json_sha256, receipt_json, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)

SELECT quote_id, receipt_schema, canonical_json_sha256, receipt_json, created_at, seal
FROM liquidity_receipts
WHERE quote_id = $1

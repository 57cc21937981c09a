SELECT entity_kind, entity_id, receipt_schema, canonical_json_sha256, receipt, created_at, seal
FROM credit_receipts
WHERE entity_kind = $1 AND entity_id = $2 AND receipt_schema = $3

INSERT INTO credit_receipts (entity_kind, entity_id, receipt_schema, canonical_json_sha256, receipt, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

DELETE FROM idempotency_records
WHERE (scope, key) IN (
  SELECT scope, key FROM idempotency_records WHERE created_at < $1 ORDER BY created_at LIMIT $2
)

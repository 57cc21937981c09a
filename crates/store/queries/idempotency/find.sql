SELECT scope, key, fingerprint, status, reply, created_at, seal
FROM idempotency_records
WHERE scope = $1 AND key = $2

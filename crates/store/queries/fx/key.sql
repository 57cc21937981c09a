SELECT operation, principal, idempotency_key, fingerprint, subject, reply, kept_at, seal
FROM fx_keys
WHERE operation = $1 AND principal = $2 AND idempotency_key = $3

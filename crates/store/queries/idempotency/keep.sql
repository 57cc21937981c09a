INSERT INTO idempotency_records (scope, key, fingerprint, status, reply, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

INSERT INTO fx_keys (operation, principal, idempotency_key, fingerprint, subject, reply, kept_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

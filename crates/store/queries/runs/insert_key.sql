INSERT INTO run_event_keys (run_id, actor, idempotency_key, fingerprint, seq, position, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)

INSERT INTO run_events (run_id, seq, event_type, payload, idempotency_key, recorded_at, actor, hash, previous_position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING position

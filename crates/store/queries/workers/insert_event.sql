INSERT INTO worker_events (worker_id, seq, event_type, payload, recorded_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)

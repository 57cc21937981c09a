INSERT INTO codex_events (worker_id, seq, event_type, payload, occurred_at, received_at, event_id, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

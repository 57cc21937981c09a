SELECT worker_id, seq, event_type, payload, occurred_at, received_at, event_id, seal
FROM codex_events
WHERE worker_id = $1 AND seq = $2

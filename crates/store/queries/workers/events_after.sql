SELECT worker_id, seq, event_type, payload, recorded_at, seal
FROM worker_events
WHERE worker_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3

SELECT worker_id, seq, event_type, payload, recorded_at, seal
FROM worker_events
WHERE worker_id = $1
ORDER BY seq DESC
LIMIT 1

DELETE FROM worker_events
WHERE worker_id = $1 AND seq > $2 AND seq <= $3 AND event_type = $4

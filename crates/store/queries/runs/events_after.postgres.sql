SELECT run_id, seq, event_type, payload, idempotency_key, recorded_at, actor, hash, previous_position
FROM run_events
WHERE run_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3

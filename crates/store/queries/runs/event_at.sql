SELECT run_id, seq, event_type, payload, idempotency_key, recorded_at, actor, hash, previous_position
FROM run_events
WHERE position = $1

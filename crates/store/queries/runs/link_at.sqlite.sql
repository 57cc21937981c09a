SELECT run_id, seq, previous_position
FROM run_events
WHERE position = $1

UPDATE bridge_outgoing
SET attempts = attempts + $4, next_attempt_at = $5, last_error = $6
WHERE relay = $1 AND address = $2 AND event_id = $3

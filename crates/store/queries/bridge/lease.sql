UPDATE bridge_outgoing
SET next_attempt_at = $4
WHERE relay = $1 AND address = $2 AND event_id = $3 AND next_attempt_at <= $5

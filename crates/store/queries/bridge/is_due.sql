SELECT attempts
FROM bridge_outgoing
WHERE relay = $1 AND next_attempt_at <= $2
LIMIT 1

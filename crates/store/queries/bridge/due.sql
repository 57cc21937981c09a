SELECT relay, address, event_id, kind, event, queued_at, seal, attempts
FROM bridge_outgoing
WHERE relay = $1 AND next_attempt_at <= $2
ORDER BY next_attempt_at, queued_at
LIMIT $3

SELECT COUNT(*), COUNT(next_attempt_at), MIN(queued_at)
FROM bridge_outgoing
WHERE relay = $1

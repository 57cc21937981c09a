SELECT COUNT(*), COUNT(next_attempt_at), MIN(CASE WHEN next_attempt_at IS NOT NULL THEN queued_at END),
  COUNT(CASE WHEN kind <> $2 THEN 1 END)
FROM bridge_outgoing
WHERE relay = $1

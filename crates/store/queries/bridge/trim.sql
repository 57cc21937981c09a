-- Ads replace each other, so they are never too many, and push nothing else out.
DELETE FROM bridge_outgoing
WHERE relay = $1 AND kind <> $3 AND queued_at < (
  SELECT queued_at FROM bridge_outgoing WHERE relay = $1 AND kind <> $3 ORDER BY queued_at DESC LIMIT 1 OFFSET $2
)

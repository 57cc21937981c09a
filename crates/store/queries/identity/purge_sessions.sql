DELETE FROM sessions
WHERE session_id IN (
  SELECT session_id FROM sessions WHERE refresh_expires_at <= $1 ORDER BY refresh_expires_at LIMIT $2
)

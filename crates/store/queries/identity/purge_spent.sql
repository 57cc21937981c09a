DELETE FROM spent_refresh_tokens
WHERE token_hash IN (
  SELECT t.token_hash FROM spent_refresh_tokens t
  WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = t.session_id)
  LIMIT $1
)

SELECT
  token_hash, refresh_token_id, session_id, user_id, device_id, revoked_at, reason, seal
FROM spent_refresh_tokens
WHERE token_hash = $1

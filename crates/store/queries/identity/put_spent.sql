INSERT INTO spent_refresh_tokens (
  token_hash, refresh_token_id, session_id, user_id, device_id, revoked_at, reason, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (token_hash) DO NOTHING

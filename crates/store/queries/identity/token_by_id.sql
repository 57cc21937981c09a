SELECT
  token_id, user_id, name, token_hash, abilities, created_at, expires_at, revoked_at, seal,
  last_used_at
FROM personal_tokens
WHERE token_id = $1

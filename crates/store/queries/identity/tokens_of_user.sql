SELECT
  token_id, user_id, name, token_hash, abilities, created_at, expires_at, revoked_at, seal,
  last_used_at
FROM personal_tokens
WHERE user_id = $1 AND revoked_at IS NULL
ORDER BY created_at DESC, token_id DESC
LIMIT $2

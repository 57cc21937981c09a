DELETE FROM personal_tokens
WHERE token_id IN (
  SELECT token_id FROM personal_tokens WHERE revoked_at <= $1 ORDER BY revoked_at LIMIT $2
)

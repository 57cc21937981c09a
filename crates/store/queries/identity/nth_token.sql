-- Whether a user has more than so many tokens that are not revoked; ends at that one.
SELECT token_id
FROM personal_tokens
WHERE user_id = $1 AND revoked_at IS NULL
ORDER BY created_at, token_id
LIMIT 1 OFFSET $2

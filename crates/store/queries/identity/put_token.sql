INSERT INTO personal_tokens (
  token_id, user_id, name, token_hash, abilities, created_at, expires_at, revoked_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (token_id) DO UPDATE SET
  user_id = excluded.user_id,
  name = excluded.name,
  token_hash = excluded.token_hash,
  abilities = excluded.abilities,
  created_at = excluded.created_at,
  expires_at = excluded.expires_at,
  revoked_at = excluded.revoked_at,
  seal = excluded.seal

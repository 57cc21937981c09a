INSERT INTO users (
  user_id, email, name, provider_id, admin, created_at, updated_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (user_id) DO UPDATE SET
  email = excluded.email,
  name = excluded.name,
  provider_id = excluded.provider_id,
  admin = excluded.admin,
  created_at = excluded.created_at,
  updated_at = excluded.updated_at,
  seal = excluded.seal

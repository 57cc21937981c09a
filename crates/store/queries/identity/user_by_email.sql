SELECT
  user_id, email, name, provider_id, admin, created_at, updated_at, seal
FROM users
WHERE email = $1

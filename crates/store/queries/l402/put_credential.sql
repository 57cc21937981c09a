INSERT INTO l402_credentials (
  principal, origin, scope, credential, expires_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (principal, origin, scope) DO UPDATE SET
  credential = excluded.credential,
  expires_at = excluded.expires_at,
  seal = excluded.seal

SELECT
  principal, origin, scope, credential, expires_at, seal
FROM l402_credentials
WHERE principal = $1 AND origin = $2 AND scope = $3

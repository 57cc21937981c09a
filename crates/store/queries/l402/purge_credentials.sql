DELETE FROM l402_credentials
WHERE (principal, origin, scope) IN (
  SELECT principal, origin, scope FROM l402_credentials WHERE expires_at < $1 ORDER BY expires_at LIMIT $2
)

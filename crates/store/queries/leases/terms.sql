SELECT name, token, holder, taken_at, until, seal
FROM lease_terms
WHERE name = $1
ORDER BY token DESC
LIMIT $2

SELECT name, holder, token, taken_at, until, seal
FROM leases
WHERE name = $1

-- Whoever would take the lease waits until this transaction is over, and this one sees whoever took it before.
SELECT name, holder, token, taken_at, until, seal
FROM leases
WHERE name = $1
FOR SHARE

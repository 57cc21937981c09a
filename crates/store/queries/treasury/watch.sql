SELECT name, holder, until, cursor, rounds, seal
FROM treasury_watch
WHERE name = $1

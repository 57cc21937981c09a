SELECT name, is_open, transitions, recoveries, changed_at, seal
FROM hydra_breakers
WHERE name = $1

SELECT name, counted
FROM hydra_counters
ORDER BY name
LIMIT 200

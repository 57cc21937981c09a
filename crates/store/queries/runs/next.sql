SELECT run_id
FROM runs
WHERE run_id > $1
ORDER BY run_id
LIMIT 1

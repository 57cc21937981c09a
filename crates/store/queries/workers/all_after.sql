SELECT worker_id
FROM workers
WHERE worker_id > $1
ORDER BY worker_id
LIMIT $2

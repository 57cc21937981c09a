SELECT worker_id, updated_at
FROM workers
WHERE updated_at >= $1 AND (updated_at > $1 OR worker_id > $2)
ORDER BY updated_at, worker_id
LIMIT $3

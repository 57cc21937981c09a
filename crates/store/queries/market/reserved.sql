SELECT worker_id, since, seal
FROM reserve_pool
WHERE worker_id = $1

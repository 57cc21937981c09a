SELECT run_id, owner_key, worker_id, metadata, created_at, seal
FROM runs
WHERE run_id = $1

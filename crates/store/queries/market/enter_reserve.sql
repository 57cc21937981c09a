INSERT INTO reserve_pool (worker_id, since, seal)
VALUES ($1, $2, $3)
ON CONFLICT (worker_id) DO NOTHING

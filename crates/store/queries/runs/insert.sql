INSERT INTO runs (run_id, owner_key, worker_id, metadata, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)

INSERT INTO provider_signals (worker_id, kind, subject_id, job_hash, detail, seen_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (worker_id, kind, subject_id) DO NOTHING

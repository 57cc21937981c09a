SELECT worker_id, kind, subject_id, job_hash, detail, seen_at, seal
FROM provider_signals
WHERE worker_id = $1 AND kind = $2 AND subject_id = $3

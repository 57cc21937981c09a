SELECT r.run_id, r.owner_key, r.worker_id, r.metadata, r.created_at, r.seal, h.status, h.latest_seq, h.updated_at
FROM runs r JOIN run_heads h ON h.run_id = r.run_id
WHERE r.owner_key = $4 AND r.run_id < $1 AND ($2 = '' OR h.status = $2)
ORDER BY r.run_id DESC
LIMIT $3

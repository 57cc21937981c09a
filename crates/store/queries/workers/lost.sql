-- Who was revived or changed since then has just been heard of, even if it has not beaten yet.
SELECT worker_id
FROM workers
WHERE status = $1 AND last_heartbeat_at < $2 AND updated_at < $2
ORDER BY last_heartbeat_at
LIMIT $3

SELECT thread_id, turn_id, worker_id, request_id, status, model, started_at, ended_at, seal
FROM thread_turns
WHERE worker_id = $1 AND status = $2
ORDER BY started_at
LIMIT $3

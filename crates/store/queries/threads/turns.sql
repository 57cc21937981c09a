SELECT thread_id, turn_id, worker_id, request_id, status, model, started_at, ended_at, seal
FROM thread_turns
WHERE thread_id = $1 AND (started_at, turn_id) < ($2, $3)
ORDER BY started_at DESC, turn_id DESC
LIMIT $4

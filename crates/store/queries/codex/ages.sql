SELECT seq, received_at FROM codex_events WHERE worker_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3

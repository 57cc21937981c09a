DELETE FROM codex_events WHERE worker_id = $1 AND seq < $2

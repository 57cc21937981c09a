SELECT worker_id, request_key FROM codex_requests WHERE deadline_at <= $1 ORDER BY deadline_at LIMIT $2

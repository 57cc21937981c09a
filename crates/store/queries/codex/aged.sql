SELECT worker_id FROM codex_workers WHERE oldest_at < $1 ORDER BY oldest_at LIMIT $2

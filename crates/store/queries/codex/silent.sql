SELECT worker_id FROM codex_workers WHERE silent_since < $1 ORDER BY silent_since LIMIT $2

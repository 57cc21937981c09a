UPDATE codex_workers
SET feed_seen_at = $2
WHERE worker_id = $1 AND (feed_seen_at IS NULL OR feed_seen_at <= $3)

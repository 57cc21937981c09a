-- Whether a user has more than so many workers; ends at that one.
SELECT worker_id
FROM codex_workers
WHERE user_id = $1
ORDER BY updated_at, worker_id
LIMIT 1 OFFSET $2

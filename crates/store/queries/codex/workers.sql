SELECT worker_id, user_id, status, latest_seq, oldest_seq, oldest_at, workspace_ref, codex_home_ref, adapter, metadata, started_at,
  stopped_at, last_heartbeat_at, silent_since, updated_at, seal, feed_seen_at
FROM codex_workers
WHERE user_id = $1 AND (updated_at, worker_id) < ($2, $3) AND ($4 = '' OR status = $4)
  AND ($5 = '' OR workspace_ref = $5)
ORDER BY updated_at DESC, worker_id DESC
LIMIT $6

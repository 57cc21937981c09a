SELECT worker_id, user_id, status, latest_seq, oldest_seq, oldest_at, workspace_ref, codex_home_ref, adapter, metadata, started_at,
  stopped_at, last_heartbeat_at, silent_since, updated_at, seal, feed_seen_at
FROM codex_workers
WHERE worker_id = $1

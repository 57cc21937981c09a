INSERT INTO codex_workers (worker_id, user_id, status, latest_seq, oldest_seq, oldest_at, workspace_ref, codex_home_ref, adapter, metadata, started_at,
  stopped_at, last_heartbeat_at, silent_since, updated_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (worker_id) DO UPDATE SET user_id = excluded.user_id, status = excluded.status,
  latest_seq = excluded.latest_seq, oldest_seq = excluded.oldest_seq, oldest_at = excluded.oldest_at,
  workspace_ref = excluded.workspace_ref, codex_home_ref = excluded.codex_home_ref, adapter = excluded.adapter,
  metadata = excluded.metadata, started_at = excluded.started_at, stopped_at = excluded.stopped_at,
  last_heartbeat_at = excluded.last_heartbeat_at, silent_since = excluded.silent_since,
  updated_at = excluded.updated_at, seal = excluded.seal

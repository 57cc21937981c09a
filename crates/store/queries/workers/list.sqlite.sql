SELECT worker_id, owner_key, workspace_ref, codex_home_ref, adapter, status, latest_seq, metadata, started_at, stopped_at, last_heartbeat_at, updated_at,
  qualified_at, failure_strikes, success_count, quarantined_at, quarantine_reason, marks,
  projected_seq, projected_count, projected_status, projected_event_type, projected_at, seal
FROM workers
WHERE owner_key = $1 AND worker_id > $2 AND ($3 = '' OR status = $3)
ORDER BY worker_id
LIMIT $4

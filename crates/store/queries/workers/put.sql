INSERT INTO workers (worker_id, owner_key, workspace_ref, codex_home_ref, adapter, status, latest_seq, metadata, started_at, stopped_at, last_heartbeat_at, updated_at,
  qualified_at, failure_strikes, success_count, quarantined_at, quarantine_reason, marks,
  projected_seq, projected_count, projected_status, projected_event_type, projected_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
ON CONFLICT (worker_id) DO UPDATE SET owner_key = excluded.owner_key, workspace_ref = excluded.workspace_ref,
  codex_home_ref = excluded.codex_home_ref, adapter = excluded.adapter, status = excluded.status, latest_seq = excluded.latest_seq,
  metadata = excluded.metadata, started_at = excluded.started_at, stopped_at = excluded.stopped_at,
  last_heartbeat_at = excluded.last_heartbeat_at, updated_at = excluded.updated_at, qualified_at = excluded.qualified_at,
  failure_strikes = excluded.failure_strikes, success_count = excluded.success_count, quarantined_at = excluded.quarantined_at,
  quarantine_reason = excluded.quarantine_reason, marks = excluded.marks, projected_seq = excluded.projected_seq,
  projected_count = excluded.projected_count, projected_status = excluded.projected_status,
  projected_event_type = excluded.projected_event_type, projected_at = excluded.projected_at, seal = excluded.seal

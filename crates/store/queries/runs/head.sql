SELECT run_id, owner_key, status, latest_seq, last_position, chain, updated_at, projected_seq, projected_count, projected_status, projected_event_type, projected_at, seal
FROM run_heads
WHERE run_id = $1

UPDATE run_heads
SET owner_key = $2, status = $3, latest_seq = $4, last_position = $5, chain = $6, updated_at = $7, projected_seq = $8,
  projected_count = $9, projected_status = $10, projected_event_type = $11, projected_at = $12, seal = $13
WHERE run_id = $1

INSERT INTO run_heads (run_id, owner_key, status, latest_seq, last_position, chain, updated_at, projected_seq, projected_count, projected_status, projected_event_type, projected_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

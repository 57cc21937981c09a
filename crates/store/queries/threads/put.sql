INSERT INTO threads (thread_id, user_id, org_id, autopilot_id, title, created_at, updated_at, message_count, last_message_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (thread_id) DO UPDATE SET user_id = excluded.user_id, org_id = excluded.org_id,
  autopilot_id = excluded.autopilot_id, title = excluded.title, created_at = excluded.created_at,
  updated_at = excluded.updated_at, message_count = excluded.message_count,
  last_message_at = excluded.last_message_at, seal = excluded.seal

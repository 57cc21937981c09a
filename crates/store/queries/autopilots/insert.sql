INSERT INTO autopilots (
  autopilot_id, user_id, handle, display_name, avatar, tagline, status, visibility, runtime_type, policy, created_at, updated_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (user_id, handle) DO NOTHING

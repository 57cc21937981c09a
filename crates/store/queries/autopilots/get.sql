SELECT
  autopilot_id, user_id, handle, display_name, avatar, tagline, status, visibility, runtime_type, policy, created_at, updated_at, seal
FROM autopilots
WHERE autopilot_id = $1

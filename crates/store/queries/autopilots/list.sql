SELECT
  autopilot_id, user_id, handle, display_name, avatar, tagline, status, visibility, runtime_type, policy, created_at, updated_at, seal
FROM autopilots
WHERE user_id = $1 AND (updated_at, autopilot_id) < ($2, $3)
ORDER BY updated_at DESC, autopilot_id DESC
LIMIT $4

SELECT
  session_id, user_id, email, device_id, token_name, active_org_id, access_hash, refresh_hash,
  refresh_token_id, issued_at, access_expires_at, refresh_expires_at, status, reauth_required,
  last_refreshed_at, revoked_at, revoked_reason, seal
FROM sessions
WHERE user_id = $1
ORDER BY issued_at DESC, session_id DESC
LIMIT $2

INSERT INTO sessions (
  session_id, user_id, email, device_id, token_name, active_org_id, access_hash, refresh_hash,
  refresh_token_id, issued_at, access_expires_at, refresh_expires_at, status, reauth_required,
  last_refreshed_at, revoked_at, revoked_reason, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (session_id) DO UPDATE SET
  user_id = excluded.user_id,
  email = excluded.email,
  device_id = excluded.device_id,
  token_name = excluded.token_name,
  active_org_id = excluded.active_org_id,
  access_hash = excluded.access_hash,
  refresh_hash = excluded.refresh_hash,
  refresh_token_id = excluded.refresh_token_id,
  issued_at = excluded.issued_at,
  access_expires_at = excluded.access_expires_at,
  refresh_expires_at = excluded.refresh_expires_at,
  status = excluded.status,
  reauth_required = excluded.reauth_required,
  last_refreshed_at = excluded.last_refreshed_at,
  revoked_at = excluded.revoked_at,
  revoked_reason = excluded.revoked_reason,
  seal = excluded.seal

INSERT INTO memberships (
  user_id, org_id, org_slug, role, role_scopes, default_org, created_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (user_id, org_id) DO NOTHING

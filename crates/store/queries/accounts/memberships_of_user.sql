SELECT
  user_id, org_id, org_slug, role, role_scopes, default_org, created_at, seal
FROM memberships
WHERE user_id = $1
ORDER BY org_id
LIMIT 1000

INSERT INTO organisations (org_id, slug, created_at, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING

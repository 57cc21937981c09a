INSERT INTO route_split_overrides (domain, kind, value, updated_at, seal)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (domain, kind) DO UPDATE SET
  value = excluded.value, updated_at = excluded.updated_at, seal = excluded.seal

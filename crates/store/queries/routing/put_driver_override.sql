INSERT INTO driver_overrides (
  scope_type, scope_id, override_id, driver, is_active, reason, meta, created_at, updated_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (scope_type, scope_id) DO UPDATE SET
  override_id = excluded.override_id, driver = excluded.driver, is_active = excluded.is_active,
  reason = excluded.reason, meta = excluded.meta, created_at = excluded.created_at,
  updated_at = excluded.updated_at, seal = excluded.seal

SELECT
  scope_type, scope_id, override_id, driver, is_active, reason, meta, created_at, updated_at, seal
FROM driver_overrides
ORDER BY updated_at DESC, override_id DESC
LIMIT $1

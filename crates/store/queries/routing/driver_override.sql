SELECT
  scope_type, scope_id, override_id, driver, is_active, reason, meta, created_at, updated_at, seal
FROM driver_overrides
WHERE scope_type = $1 AND scope_id = $2

SELECT
  task_id, principal, state, held, payment_hash, origin, host, scope, autopilot, quoted_msats,
  max_msats, max_day_msats, created_at, expires_at, changed_at, seal
FROM l402_tasks
WHERE task_id = $1

INSERT INTO l402_tasks (
  task_id, principal, state, held, payment_hash, origin, host, scope, autopilot, quoted_msats,
  max_msats, max_day_msats, created_at, expires_at, changed_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (task_id) DO UPDATE SET
  principal = excluded.principal,
  state = excluded.state,
  held = excluded.held,
  payment_hash = excluded.payment_hash,
  origin = excluded.origin,
  host = excluded.host,
  scope = excluded.scope,
  autopilot = excluded.autopilot,
  quoted_msats = excluded.quoted_msats,
  max_msats = excluded.max_msats,
  max_day_msats = excluded.max_day_msats,
  created_at = excluded.created_at,
  expires_at = excluded.expires_at,
  changed_at = excluded.changed_at,
  seal = excluded.seal

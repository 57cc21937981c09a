INSERT INTO l402_payments (
  payment_hash, subject, principal, state, payer, request_id, invoice, macaroon, origin, host, scope,
  autopilot, day, quoted_msats, max_msats, reserved_msats, paid_msats, payment_id, preimage, attempt,
  created_at, updated_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
ON CONFLICT (payment_hash) DO UPDATE SET
  subject = excluded.subject,
  principal = excluded.principal,
  state = excluded.state,
  payer = excluded.payer,
  request_id = excluded.request_id,
  invoice = excluded.invoice,
  macaroon = excluded.macaroon,
  origin = excluded.origin,
  host = excluded.host,
  scope = excluded.scope,
  autopilot = excluded.autopilot,
  day = excluded.day,
  quoted_msats = excluded.quoted_msats,
  max_msats = excluded.max_msats,
  reserved_msats = excluded.reserved_msats,
  paid_msats = excluded.paid_msats,
  payment_id = excluded.payment_id,
  preimage = excluded.preimage,
  attempt = excluded.attempt,
  created_at = excluded.created_at,
  updated_at = excluded.updated_at,
  seal = excluded.seal

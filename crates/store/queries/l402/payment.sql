SELECT
  payment_hash, subject, principal, state, payer, request_id, invoice, macaroon, origin, host, scope,
  autopilot, day, quoted_msats, max_msats, reserved_msats, paid_msats, payment_id, preimage, attempt,
  created_at, updated_at, seal
FROM l402_payments
WHERE payment_hash = $1

SELECT
  payment_hash, subject, principal, state, payer, request_id, invoice, macaroon, origin, host, scope,
  autopilot, day, quoted_msats, max_msats, reserved_msats, paid_msats, payment_id, preimage, attempt,
  created_at, updated_at, seal
FROM l402_payments
WHERE state IN ('paying', 'unknown') AND updated_at < $1
ORDER BY updated_at
LIMIT $2

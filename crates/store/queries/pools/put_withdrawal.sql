INSERT INTO liquidity_withdrawals (withdrawal_id, pool_id, partition_kind, lp_id, shares_burned, amount_sats_estimate, rail_preference,
  status, fingerprint, idempotency_key, earliest_settlement_at, payout_invoice_bolt11, payout_invoice_hash,
  payment_hash, payout_address, locked, round, request_id, paying, not_after, signing_request_id, due_at,
  wallet_receipt_sha256, last_error, created_at, paid_at, owed, returned, tries, asks, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)
ON CONFLICT (withdrawal_id) DO UPDATE SET pool_id = excluded.pool_id, partition_kind = excluded.partition_kind, lp_id = excluded.lp_id,
  shares_burned = excluded.shares_burned, amount_sats_estimate = excluded.amount_sats_estimate,
  rail_preference = excluded.rail_preference, status = excluded.status, fingerprint = excluded.fingerprint,
  idempotency_key = excluded.idempotency_key, earliest_settlement_at = excluded.earliest_settlement_at,
  payout_invoice_bolt11 = excluded.payout_invoice_bolt11, payout_invoice_hash = excluded.payout_invoice_hash,
  payment_hash = excluded.payment_hash, payout_address = excluded.payout_address, locked = excluded.locked,
  round = excluded.round, request_id = excluded.request_id, paying = excluded.paying,
  not_after = excluded.not_after, signing_request_id = excluded.signing_request_id, due_at = excluded.due_at,
  wallet_receipt_sha256 = excluded.wallet_receipt_sha256, last_error = excluded.last_error,
  created_at = excluded.created_at, paid_at = excluded.paid_at, owed = excluded.owed, returned = excluded.returned,
  tries = excluded.tries, asks = excluded.asks, seal = excluded.seal

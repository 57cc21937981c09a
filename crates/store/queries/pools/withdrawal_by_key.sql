SELECT withdrawal_id, pool_id, partition_kind, lp_id, shares_burned, amount_sats_estimate, rail_preference,
  status, fingerprint, idempotency_key, earliest_settlement_at, payout_invoice_bolt11, payout_invoice_hash,
  payment_hash, payout_address, locked, round, request_id, paying, not_after, signing_request_id, due_at,
  wallet_receipt_sha256, last_error, created_at, paid_at, owed, returned, tries, asks, seal
FROM liquidity_withdrawals
WHERE pool_id = $1 AND partition_kind = $2 AND lp_id = $3 AND idempotency_key = $4

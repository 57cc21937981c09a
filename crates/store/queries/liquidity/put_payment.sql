INSERT INTO liquidity_payments (payment_id, lane, fingerprint, request_id, wallet_id, invoice, payment_hash, host,
  amount, max_fee, payer, hold_id, run_id, trajectory_hash, status, asks, next_ask_at, not_after, started_at,
  completed_at, latency_ms, wallet_response, wallet_receipt_sha256, preimage_sha256, paid_at_ms, settled_amount, fee,
  error_code, error_message, updated_at, wallet_memory, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
  $25, $26, $27, $28, $29, $30, $31, $32)
ON CONFLICT (payment_id)
DO UPDATE SET lane = excluded.lane, fingerprint = excluded.fingerprint, request_id = excluded.request_id, wallet_id =
  excluded.wallet_id, invoice = excluded.invoice, payment_hash = excluded.payment_hash, host = excluded.host, amount =
  excluded.amount, max_fee = excluded.max_fee, payer = excluded.payer, hold_id = excluded.hold_id, run_id =
  excluded.run_id, trajectory_hash = excluded.trajectory_hash, status = excluded.status, asks = excluded.asks,
  next_ask_at = excluded.next_ask_at, not_after = excluded.not_after, started_at = excluded.started_at, completed_at =
  excluded.completed_at, latency_ms = excluded.latency_ms, wallet_response = excluded.wallet_response,
  wallet_receipt_sha256 = excluded.wallet_receipt_sha256, preimage_sha256 = excluded.preimage_sha256, paid_at_ms =
  excluded.paid_at_ms, settled_amount = excluded.settled_amount, fee = excluded.fee, error_code = excluded.error_code,
  error_message = excluded.error_message, updated_at = excluded.updated_at, wallet_memory = excluded.wallet_memory, seal = excluded.seal

SELECT payment_id, lane, fingerprint, request_id, wallet_id, invoice, payment_hash, host, amount, max_fee, payer,
  hold_id, run_id, trajectory_hash, status, asks, next_ask_at, not_after, started_at, completed_at, latency_ms,
  wallet_response, wallet_receipt_sha256, preimage_sha256, paid_at_ms, settled_amount, fee, error_code, error_message,
  updated_at, seal
FROM liquidity_payments
WHERE hold_id = $1
ORDER BY started_at DESC, payment_id DESC
LIMIT 1

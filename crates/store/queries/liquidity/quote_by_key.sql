SELECT quote_id, principal, idempotency_key, fingerprint, invoice, invoice_hash, payment_hash, payee, host,
  quoted_amount, max_amount, max_fee, urgency, policy_context, policy_context_sha256, payer, valid_until, created_at,
  seal
FROM liquidity_quotes
WHERE principal = $1 AND idempotency_key = $2

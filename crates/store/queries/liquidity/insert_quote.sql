INSERT INTO liquidity_quotes (quote_id, principal, idempotency_key, fingerprint, invoice, invoice_hash, payment_hash,
  payee, host, quoted_amount, max_amount, max_fee, urgency, policy_context, policy_context_sha256, payer, valid_until,
  created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)

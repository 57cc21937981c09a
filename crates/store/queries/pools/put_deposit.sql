INSERT INTO liquidity_deposits (deposit_id, pool_id, partition_kind, lp_id, rail, amount_sats, share_price_sats, shares_minted, status,
  fingerprint, idempotency_key, wallet_request_id, invoice_bolt11, invoice_hash, payment_hash,
  deposit_address, received, evidence, look_at, created_at, expires_at, confirmed_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
ON CONFLICT (deposit_id) DO UPDATE SET pool_id = excluded.pool_id, partition_kind = excluded.partition_kind, lp_id = excluded.lp_id,
  rail = excluded.rail, amount_sats = excluded.amount_sats, share_price_sats = excluded.share_price_sats,
  shares_minted = excluded.shares_minted, status = excluded.status, fingerprint = excluded.fingerprint,
  idempotency_key = excluded.idempotency_key, wallet_request_id = excluded.wallet_request_id,
  invoice_bolt11 = excluded.invoice_bolt11, invoice_hash = excluded.invoice_hash,
  payment_hash = excluded.payment_hash, deposit_address = excluded.deposit_address,
  received = excluded.received, evidence = excluded.evidence, look_at = excluded.look_at,
  created_at = excluded.created_at, expires_at = excluded.expires_at, confirmed_at = excluded.confirmed_at,
  seal = excluded.seal

SELECT deposit_id, pool_id, partition_kind, lp_id, rail, amount_sats, share_price_sats, shares_minted, status,
  fingerprint, idempotency_key, wallet_request_id, invoice_bolt11, invoice_hash, payment_hash,
  deposit_address, received, evidence, look_at, created_at, expires_at, confirmed_at, seal
FROM liquidity_deposits
WHERE evidence = $1

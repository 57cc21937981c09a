SELECT owner_key, quote_id, quote_sha256, job_hash, capability, worker_id, provider_id, provider_price, operator_fee, policy_adder,
  issued_at_unix, valid_until_unix, quote, dispatch_id, created_at, seal
FROM market_quotes
WHERE owner_key = $1 AND quote_id = $2

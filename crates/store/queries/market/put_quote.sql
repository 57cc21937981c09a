-- A quote never changes but for the dispatch that it binds.
INSERT INTO market_quotes (owner_key, quote_id, quote_sha256, job_hash, capability, worker_id, provider_id, provider_price, operator_fee, policy_adder,
  issued_at_unix, valid_until_unix, quote, dispatch_id, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (owner_key, quote_id) DO UPDATE SET dispatch_id = excluded.dispatch_id, seal = excluded.seal

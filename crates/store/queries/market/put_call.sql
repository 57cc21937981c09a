INSERT INTO market_calls (dispatch_id, call_no, worker_id, provider_id, tier, quote_id, hold_id, outcome, detail, response_sha256, latency_ms, began_at,
  ended_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (dispatch_id, call_no) DO UPDATE SET worker_id = excluded.worker_id, provider_id = excluded.provider_id,
  tier = excluded.tier, quote_id = excluded.quote_id, hold_id = excluded.hold_id, outcome = excluded.outcome, detail = excluded.detail,
  response_sha256 = excluded.response_sha256, latency_ms = excluded.latency_ms, began_at = excluded.began_at, ended_at = excluded.ended_at,
  seal = excluded.seal

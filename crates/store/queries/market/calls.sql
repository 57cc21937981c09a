SELECT dispatch_id, call_no, worker_id, provider_id, tier, quote_id, hold_id, outcome, detail, response_sha256, latency_ms, began_at,
  ended_at, seal
FROM market_calls
WHERE dispatch_id = $1
ORDER BY call_no

INSERT INTO market_telemetry (owner_key, dispatch_total, dispatch_not_found, dispatch_errors, dispatch_fallbacks, latencies, updated_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (owner_key) DO UPDATE SET dispatch_total = excluded.dispatch_total, dispatch_not_found = excluded.dispatch_not_found,
  dispatch_errors = excluded.dispatch_errors, dispatch_fallbacks = excluded.dispatch_fallbacks, latencies = excluded.latencies,
  updated_at = excluded.updated_at, seal = excluded.seal

SELECT owner_key, dispatch_total, dispatch_not_found, dispatch_errors, dispatch_fallbacks, latencies, updated_at, seal
FROM market_telemetry
WHERE owner_key = $1

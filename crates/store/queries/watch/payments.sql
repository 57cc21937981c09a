SELECT COUNT(*), MIN(started_at)
FROM (
  SELECT started_at FROM liquidity_payments WHERE next_ask_at IS NOT NULL ORDER BY next_ask_at, payment_id LIMIT 1000
) AS found

-- Of the latest: how many ended, how many of them badly, and how many of these count when an envelope's count for one and
-- nobody's for more than two.
SELECT CAST(COALESCE(SUM(ended), 0) AS BIGINT), CAST(COALESCE(SUM(failed), 0) AS BIGINT),
  CAST(COALESCE(SUM(CASE WHEN failing > 2 THEN 2 ELSE failing END), 0) AS BIGINT)
FROM (
  SELECT COUNT(*) AS ended, SUM(CASE WHEN latest.status <> 'succeeded' THEN 1 ELSE 0 END) AS failed,
    COUNT(DISTINCT CASE WHEN latest.status <> 'succeeded' THEN latest.envelope_id END) AS failing
  FROM (
    SELECT envelope_id, status
    FROM credit_payments
    WHERE created_at >= $1 AND status <> 'in_flight'
    ORDER BY created_at DESC, payment_id
    LIMIT $2
  ) latest
  JOIN credit_envelopes ON credit_envelopes.envelope_id = latest.envelope_id
  GROUP BY credit_envelopes.borrower
) each_borrower

-- Of the latest: how many ended, how many of them badly, and how many of these count when nobody's count for more than two.
SELECT CAST(COALESCE(SUM(ended), 0) AS BIGINT), CAST(COALESCE(SUM(lost), 0) AS BIGINT),
  CAST(COALESCE(SUM(CASE WHEN lost > 2 THEN 2 ELSE lost END), 0) AS BIGINT)
FROM (
  SELECT COUNT(*) AS ended, SUM(CASE WHEN outcome <> 'success' THEN 1 ELSE 0 END) AS lost
  FROM (
    SELECT borrower, outcome
    FROM credit_settlements
    WHERE provider_id = $3 AND created_at >= $1
    ORDER BY created_at DESC, settlement_id
    LIMIT $2
  ) latest
  GROUP BY borrower
) each_borrower

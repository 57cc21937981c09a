SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN status <> 'succeeded' THEN 1 ELSE 0 END), 0) AS BIGINT)
FROM (
  SELECT status
  FROM credit_payments
  WHERE created_at >= $1 AND status <> 'in_flight'
  ORDER BY created_at DESC, payment_id
  LIMIT $2
) latest

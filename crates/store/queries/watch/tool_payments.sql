SELECT COUNT(*), MIN(created_at)
FROM (
  SELECT state, created_at FROM l402_payments
  WHERE state IN ('pending', 'paying', 'unknown') ORDER BY updated_at LIMIT 1000
) AS found
WHERE state <> 'pending'

SELECT settlement_id
FROM compute_paying
WHERE settlement_id > $1 AND (over_at < $3 OR EXISTS (
  SELECT 1 FROM credit_settlements WHERE credit_settlements.envelope_id = compute_paying.envelope_id))
ORDER BY settlement_id
LIMIT $2

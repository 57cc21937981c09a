SELECT outcome, spent_sats, created_at
FROM credit_settlements
WHERE borrower = $1 AND created_at >= $2 AND recorded_at <= $3
ORDER BY created_at DESC, settlement_id
LIMIT $4

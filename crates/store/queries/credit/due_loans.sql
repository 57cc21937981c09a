SELECT due_at, settlement_id
FROM credit_loans
WHERE status = 'open' AND due_at <= $1 AND (due_at, settlement_id) > ($3, $4)
ORDER BY due_at, settlement_id
LIMIT $2

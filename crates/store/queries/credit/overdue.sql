SELECT closed_at, settlement_id
FROM credit_loans
WHERE status = 'defaulted' AND closed_at <= $1 AND (closed_at, settlement_id) > ($3, $4)
ORDER BY closed_at, settlement_id
LIMIT $2

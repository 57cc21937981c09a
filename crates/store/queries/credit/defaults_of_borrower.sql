SELECT defaulted_at
FROM credit_loans
WHERE borrower = $1 AND defaulted_at >= $2 AND defaulted_at <= $3
ORDER BY defaulted_at DESC
LIMIT $4

UPDATE credit_loans SET borrower = $2, defaulted_at = $3
WHERE settlement_id = $1

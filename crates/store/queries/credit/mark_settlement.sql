UPDATE credit_settlements SET provider_id = $2, borrower = $3
WHERE settlement_id = $1

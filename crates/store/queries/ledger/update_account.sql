UPDATE ledger_accounts
SET asset = $2, overdraft = $3, closed = $4, debits_pending = $5, debits_posted = $6, credits_pending = $7, credits_posted = $8,
  entries = $9, seal = $10
WHERE account_id = $1

INSERT INTO ledger_accounts (account_id, asset, overdraft, closed, debits_pending, debits_posted, credits_pending, credits_posted, entries, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (account_id) DO NOTHING

SELECT account_id, asset, overdraft, closed, debits_pending, debits_posted, credits_pending, credits_posted, entries, seal
FROM ledger_accounts
WHERE account_id = $1

-- What the accounts of each asset hold together, and how many they are.
SELECT asset, CAST(SUM(debits_pending) AS BIGINT), CAST(SUM(debits_posted) AS BIGINT), CAST(SUM(credits_pending) AS BIGINT), CAST(SUM(credits_posted) AS BIGINT)
FROM ledger_accounts
GROUP BY asset
ORDER BY asset

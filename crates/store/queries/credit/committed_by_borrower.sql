-- What is held or being paid at $2, in sats; and what is owed, in millisatoshis.
SELECT
  (SELECT CAST(COALESCE(SUM(max_sats), 0) AS BIGINT) FROM credit_envelopes
    WHERE borrower = $1 AND pool_id = $3 AND freed = 0 AND (expires_at > $2 OR payment_id IS NOT NULL)),
  (SELECT CAST(COALESCE(SUM(principal + routing + fee - repaid), 0) AS BIGINT) FROM credit_loans
    WHERE borrower = $1 AND pool_id = $3 AND status <> 'repaid')

SELECT CAST(COALESCE(SUM(principal + routing + fee - repaid), 0) AS BIGINT)
FROM credit_loans
WHERE agent_id = $1 AND status <> 'repaid'

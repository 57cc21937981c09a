SELECT closed_at
FROM credit_loans
WHERE agent_id = $1 AND status = 'defaulted' AND closed_at >= $2 AND closed_at <= $3
ORDER BY closed_at DESC
LIMIT $4

SELECT settlement_id, envelope_id, agent_id, pool_id, account, principal, routing, fee, repaid, repayments, status, due_at, opened_at, closed_at, seal
FROM credit_loans
WHERE status = 'open' AND due_at <= $1
ORDER BY due_at, settlement_id
LIMIT $2

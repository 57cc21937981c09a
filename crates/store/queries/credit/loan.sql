SELECT settlement_id, envelope_id, agent_id, pool_id, account, principal, routing, fee, repaid, repayments, status, due_at, opened_at, closed_at, seal, borrower, defaulted_at
FROM credit_loans
WHERE settlement_id = $1

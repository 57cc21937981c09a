INSERT INTO credit_loans (settlement_id, envelope_id, agent_id, pool_id, account, principal, routing, fee, repaid, repayments, status, due_at, opened_at, closed_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (settlement_id) DO UPDATE SET repaid = excluded.repaid, repayments = excluded.repayments, status = excluded.status, closed_at = excluded.closed_at, seal = excluded.seal

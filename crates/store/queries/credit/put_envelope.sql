INSERT INTO credit_envelopes (envelope_id, offer_id, agent_id, pool_id, envelope, receipt, status, max_sats, expires_at, issued_at, closed_at, hold_id, holds, attempts, payment_id, freed, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (envelope_id) DO UPDATE SET status = excluded.status, closed_at = excluded.closed_at, hold_id = excluded.hold_id, holds = excluded.holds, attempts = excluded.attempts, payment_id = excluded.payment_id, freed = excluded.freed, seal = excluded.seal

INSERT INTO credit_settlements (settlement_id, envelope_id, agent_id, pool_id, outcome, spent_sats, fee_sats, fingerprint, reply, created_at, recorded_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

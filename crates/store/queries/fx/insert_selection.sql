INSERT INTO fx_selections (rfq_id, number, quote_id, policy, decision_sha256, reply, decided_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

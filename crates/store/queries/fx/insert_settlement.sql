INSERT INTO fx_settlements (quote_id, settlement_id, rfq_id, provider_id, status, context_sha256, transfer_id, reply, settled_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

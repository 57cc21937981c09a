SELECT quote_id, settlement_id, rfq_id, provider_id, status, context_sha256, transfer_id, reply, settled_at, seal
FROM fx_settlements
WHERE quote_id = $1

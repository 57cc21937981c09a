SELECT rfq_id, requester_id, rfq, status, expires_at_unix, quotes, selections, selected_quote_id, hold_id, holds, settlement_id, seal
FROM fx_rfqs
WHERE rfq_id = $1

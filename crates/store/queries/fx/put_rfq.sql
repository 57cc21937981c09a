-- What was asked never changes.
INSERT INTO fx_rfqs (rfq_id, requester_id, rfq, status, expires_at_unix, quotes, selections, selected_quote_id, hold_id, holds, settlement_id, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (rfq_id) DO UPDATE SET status = excluded.status, quotes = excluded.quotes, selections = excluded.selections, selected_quote_id =
  excluded.selected_quote_id, hold_id = excluded.hold_id, holds = excluded.holds, settlement_id = excluded.settlement_id, seal = excluded.seal

SELECT envelope_id, offer_id, agent_id, pool_id, envelope, receipt, status, max_sats, expires_at, issued_at, closed_at, hold_id, holds, attempts, payment_id, freed, seal, borrower
FROM credit_envelopes
WHERE envelope_id = $1

SELECT settlement_id, envelope_id, agent_id, pool_id, provider_id, borrower, outcome, spent_sats, fee_sats, fingerprint, reply, created_at, recorded_at, seal
FROM credit_settlements
WHERE envelope_id = $1

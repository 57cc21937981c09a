SELECT settlement_id, envelope_id, agent_id, pool_id, outcome, spent_sats, fee_sats, fingerprint, reply, created_at, recorded_at, seal, provider_id, borrower
FROM credit_settlements
WHERE envelope_id = $1

SELECT rfq_id, number, quote_id, policy, decision_sha256, reply, decided_at, seal
FROM fx_selections
WHERE rfq_id = $1 AND number = $2

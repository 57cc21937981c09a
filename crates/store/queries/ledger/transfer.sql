SELECT transfer_id, state, held, expires_at, reference, opened_at, ended_at, seal
FROM ledger_transfers
WHERE transfer_id = $1

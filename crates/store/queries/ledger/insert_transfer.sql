INSERT INTO ledger_transfers (transfer_id, state, held, expires_at, reference, opened_at, ended_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

INSERT INTO ledger_entries (account_id, seq, transfer_id, leg, side, step, pending, posted, at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

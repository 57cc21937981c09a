INSERT INTO ledger_legs (transfer_id, leg, debit_account, credit_account, amount, captured, opened_debit, opened_credit, ended_debit, ended_credit, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

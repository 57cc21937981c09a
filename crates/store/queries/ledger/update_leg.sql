UPDATE ledger_legs
SET debit_account = $3, credit_account = $4, amount = $5, captured = $6, opened_debit = $7, opened_credit = $8, ended_debit = $9, ended_credit = $10,
  seal = $11
WHERE transfer_id = $1 AND leg = $2

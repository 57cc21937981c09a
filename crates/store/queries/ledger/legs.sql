SELECT transfer_id, leg, debit_account, credit_account, amount, captured, opened_debit, opened_credit, ended_debit, ended_credit, seal
FROM ledger_legs
WHERE transfer_id = $1
ORDER BY leg

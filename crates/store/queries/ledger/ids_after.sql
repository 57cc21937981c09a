SELECT transfer_id
FROM ledger_transfers
WHERE transfer_id > $1
ORDER BY transfer_id
LIMIT $2

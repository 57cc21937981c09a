SELECT transfer_id
FROM ledger_transfers
WHERE state = 'pending' AND expires_at <= $1
ORDER BY expires_at, transfer_id
LIMIT $2

SELECT account_id, seq, transfer_id, leg, side, step, pending, posted, at, seal
FROM ledger_entries
WHERE account_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3

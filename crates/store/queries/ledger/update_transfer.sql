-- Only a pending one changes: each id settles once, whatever the caller believed.
UPDATE ledger_transfers
SET state = $2, held = $3, expires_at = $4, reference = $5, opened_at = $6, ended_at = $7, seal = $8
WHERE transfer_id = $1 AND state = 'pending'

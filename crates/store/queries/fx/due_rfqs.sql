SELECT expires_at_unix, rfq_id
FROM fx_rfqs
WHERE status IN ('open', 'quoted', 'selected') AND expires_at_unix <= $1 AND (expires_at_unix, rfq_id) > ($3, $4)
ORDER BY expires_at_unix, rfq_id
LIMIT $2

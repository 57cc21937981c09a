SELECT expires_at, envelope_id
FROM credit_envelopes
WHERE freed = 0 AND payment_id IS NULL AND expires_at <= $1 AND (expires_at, envelope_id) > ($3, $4)
ORDER BY expires_at, envelope_id
LIMIT $2

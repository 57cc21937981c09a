SELECT status
FROM credit_payments
WHERE created_at >= $1 AND status <> 'in_flight'
ORDER BY created_at DESC, payment_id
LIMIT $2

SELECT payment_id, envelope_id, fingerprint, asked, evidence_id, status, error_code, amount, host, created_at, seal
FROM credit_payments
WHERE payment_id = $1

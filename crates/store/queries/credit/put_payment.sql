INSERT INTO credit_payments (payment_id, envelope_id, fingerprint, asked, evidence_id, status, error_code, amount, host, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (payment_id) DO UPDATE SET status = excluded.status, error_code = excluded.error_code, seal = excluded.seal

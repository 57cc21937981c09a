INSERT INTO credit_verifications (evidence_id, receipt_sha256, job_hash, owner_key, provider_id, price, payee, passed, consumed_by, issued_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (evidence_id) DO UPDATE SET receipt_sha256 = excluded.receipt_sha256, job_hash = excluded.job_hash, owner_key = excluded.owner_key, provider_id = excluded.provider_id, price = excluded.price, payee = excluded.payee, passed = excluded.passed, consumed_by = excluded.consumed_by, issued_at = excluded.issued_at, seal = excluded.seal

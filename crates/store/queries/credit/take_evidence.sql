-- Changes nothing when it was taken for something else in between.
UPDATE credit_verifications
SET receipt_sha256 = $2, job_hash = $3, owner_key = $4, provider_id = $5, price = $6, payee = $7, passed = $8, consumed_by = $9, issued_at = $10, seal = $11
WHERE evidence_id = $1 AND (consumed_by IS NULL OR consumed_by = $9)

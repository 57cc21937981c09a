SELECT evidence_id, receipt_sha256, job_hash, owner_key, provider_id, price, payee, passed, consumed_by, issued_at, seal
FROM credit_verifications
WHERE evidence_id = $1

SELECT evidence_id, receipt_sha256, job_hash, owner_key, provider_id, price, payee, passed, consumed_by, issued_at, seal
FROM credit_verifications
WHERE receipt_sha256 = $1 AND passed = 1
ORDER BY evidence_id
LIMIT 1

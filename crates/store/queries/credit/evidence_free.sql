SELECT evidence_id, receipt_sha256, job_hash, owner_key, provider_id, price, payee, passed, consumed_by, issued_at, seal
FROM credit_verifications
WHERE receipt_sha256 = $1 AND owner_key = $2 AND provider_id = $3 AND price = $4 AND passed = 1 AND consumed_by IS NULL
  AND (payee IS NULL OR payee = $5)
ORDER BY evidence_id
LIMIT 1

SELECT evidence_id, receipt_sha256, job_hash, passed, consumed_by, issued_at, seal
FROM credit_evidence
WHERE receipt_sha256 = $1
ORDER BY evidence_id
LIMIT $2

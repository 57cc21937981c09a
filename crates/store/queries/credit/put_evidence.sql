INSERT INTO credit_evidence (evidence_id, receipt_sha256, job_hash, passed, consumed_by, issued_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (evidence_id) DO UPDATE SET consumed_by = excluded.consumed_by, seal = excluded.seal

-- Changes nothing when somebody else has counted in between.
UPDATE fraud_incidents
SET incident_type = $2, severity = $3, provider_id = $4, provider_worker_id = $5, job_hash = $6, run_id = $7, quote_sha256 = $8,
  actions = $9, evidence = $10, created_at = $11, occurrences = $12, last_seen_at = $13, seal = $14
WHERE incident_id = $1 AND occurrences + 1 = $12

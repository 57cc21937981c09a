SELECT incident_id, incident_type, severity, provider_id, provider_worker_id, job_hash, run_id, quote_sha256, actions, evidence, created_at, occurrences, last_seen_at, seal, position
FROM fraud_incidents
WHERE position < $1 AND (incident_type = $8 OR $8 = '') AND (provider_worker_id = $9 OR $9 = '')
  AND (severity = $3 OR $3 = '') AND provider_id = $4 AND (run_id = $5 OR $5 IS NULL)
  AND created_at >= $6 AND created_at < $7
ORDER BY position DESC
LIMIT $2

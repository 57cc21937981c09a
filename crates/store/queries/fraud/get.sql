SELECT incident_id, incident_type, severity, provider_id, provider_worker_id, job_hash, run_id, quote_sha256, actions, evidence, created_at, occurrences, last_seen_at, seal, position
FROM fraud_incidents
WHERE incident_id = $1

INSERT INTO fraud_incidents (incident_id, incident_type, severity, provider_id, provider_worker_id, job_hash, run_id, quote_sha256, actions, evidence, created_at, occurrences, last_seen_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- Incidents of a provider, of a run and of a severity are found without a walk through all.
CREATE INDEX fraud_incidents_by_provider ON fraud_incidents (provider_id, position);
CREATE INDEX fraud_incidents_by_run ON fraud_incidents (run_id, position);
CREATE INDEX fraud_incidents_by_severity ON fraud_incidents (severity, position);

-- Incidents of a provider, of a run and of a severity, and what an agent holds and owes, are found without a walk through
-- all.
CREATE INDEX fraud_incidents_by_provider ON fraud_incidents (provider_id, position);
CREATE INDEX fraud_incidents_by_run ON fraud_incidents (run_id, position);
CREATE INDEX fraud_incidents_by_severity ON fraud_incidents (severity, position);
CREATE INDEX credit_envelopes_held_by_agent ON credit_envelopes (agent_id, pool_id, expires_at) WHERE freed = 0;
CREATE INDEX credit_loans_owed_by_agent ON credit_loans (agent_id, pool_id) WHERE status <> 'repaid';

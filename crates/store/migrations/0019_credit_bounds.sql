-- Credit within bounds: who answers for what is drawn, whom a pool lends to, and what was decided of jobs that a pool is
-- paying for. What is added to rows that are sealed stands behind their seal.

-- Who answers for the debt: the agent's owner when the envelope was issued, or the agent alone.
ALTER TABLE credit_envelopes ADD COLUMN borrower TEXT NOT NULL DEFAULT '';
ALTER TABLE credit_settlements ADD COLUMN borrower TEXT NOT NULL DEFAULT '';
ALTER TABLE credit_settlements ADD COLUMN provider_id TEXT NOT NULL DEFAULT '';
ALTER TABLE credit_loans ADD COLUMN borrower TEXT NOT NULL DEFAULT '';
-- When it was not repaid in time, whatever was repaid later.
ALTER TABLE credit_loans ADD COLUMN defaulted_at BIGINT;

UPDATE credit_envelopes SET borrower = COALESCE(
  (SELECT owner_key FROM credit_agents WHERE credit_agents.agent_id = credit_envelopes.agent_id), 'agent:' || agent_id);
UPDATE credit_settlements SET borrower = COALESCE(
  (SELECT borrower FROM credit_envelopes WHERE credit_envelopes.envelope_id = credit_settlements.envelope_id), 'agent:' || agent_id);
UPDATE credit_settlements SET provider_id = COALESCE(
  (SELECT json_extract(envelope, '$.provider_id') FROM credit_envelopes WHERE credit_envelopes.envelope_id = credit_settlements.envelope_id), ''); --@sqlite
  (SELECT envelope::jsonb ->> 'provider_id' FROM credit_envelopes WHERE credit_envelopes.envelope_id = credit_settlements.envelope_id), ''); --@postgres
UPDATE credit_loans SET borrower = COALESCE(
  (SELECT borrower FROM credit_envelopes WHERE credit_envelopes.envelope_id = credit_loans.envelope_id), 'agent:' || agent_id);
UPDATE credit_loans SET defaulted_at = closed_at WHERE status = 'defaulted';

CREATE INDEX credit_envelopes_held_by ON credit_envelopes (borrower, pool_id, expires_at) WHERE freed = 0;
CREATE INDEX credit_envelopes_held_of ON credit_envelopes (pool_id, expires_at) WHERE freed = 0;
CREATE INDEX credit_offers_of_agent ON credit_offers (agent_id, issued_at);
CREATE INDEX credit_settlements_of_provider ON credit_settlements (provider_id, created_at);
CREATE INDEX credit_settlements_of_borrower ON credit_settlements (borrower, created_at);
CREATE INDEX credit_loans_defaulted ON credit_loans (agent_id, defaulted_at) WHERE defaulted_at IS NOT NULL;
CREATE INDEX credit_loans_defaulted_by ON credit_loans (borrower, defaulted_at) WHERE defaulted_at IS NOT NULL;
CREATE INDEX credit_loans_owed_by ON credit_loans (borrower, pool_id) WHERE status <> 'repaid';
CREATE INDEX credit_loans_owed_to ON credit_loans (pool_id) WHERE status <> 'repaid';
CREATE INDEX credit_loans_overdue ON credit_loans (closed_at, settlement_id) WHERE status = 'defaulted';

-- Verifications of our own, by the settlement that made each: for whom, of whose work, at which price. One pays once:
-- `consumed_by` is the envelope, or the settlement of the treasury, that it has paid for. Earlier ones said nothing of
-- that, and nothing is paid on them any more.
DROP TABLE credit_evidence;

CREATE TABLE credit_verifications (
  evidence_id TEXT NOT NULL PRIMARY KEY,
  receipt_sha256 TEXT NOT NULL,
  job_hash TEXT NOT NULL,
  owner_key TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  price BIGINT NOT NULL CHECK (price > 0),
  payee TEXT,
  passed BIGINT NOT NULL,
  consumed_by TEXT,
  issued_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_verifications_by_receipt ON credit_verifications (receipt_sha256, passed, evidence_id);
CREATE INDEX credit_verifications_free ON credit_verifications (receipt_sha256, owner_key, provider_id, price, evidence_id) WHERE passed = 1 AND consumed_by IS NULL;

-- Whom a pool lends to, as its operator says; a pool without a row lends as the trust mode has it.
CREATE TABLE credit_lending (
  pool_id TEXT NOT NULL PRIMARY KEY,
  lending TEXT NOT NULL,
  changed_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Jobs of the treasury that a pool is paying for: what was decided, once, so that whoever comes by can finish it. Gone
-- when it is settled, or surely not paid.
CREATE TABLE compute_paying (
  settlement_id TEXT NOT NULL PRIMARY KEY,
  envelope_id TEXT NOT NULL UNIQUE,
  over_at BIGINT NOT NULL,
  begun_at BIGINT NOT NULL,
  decided TEXT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

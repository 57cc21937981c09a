-- Credit: what agents may spend, what was offered, the envelopes that pay providers, and what became of them. The
-- money itself is in the ledger only. Documents are kept as they were answered; the columns beside them are what is
-- asked for.

-- Whose an agent is: of the first owner that acted for it.
CREATE TABLE credit_agents (
  agent_id TEXT NOT NULL PRIMARY KEY,
  owner_key TEXT NOT NULL,
  claimed_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE TABLE credit_intents (
  intent_id TEXT NOT NULL PRIMARY KEY,
  agent_id TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  intent TEXT NOT NULL,
  policy_context TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- The audit is written with the offer, and never changes.
CREATE TABLE credit_offers (
  offer_id TEXT NOT NULL PRIMARY KEY,
  agent_id TEXT NOT NULL,
  pool_id TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  offer TEXT NOT NULL,
  status TEXT NOT NULL,
  audit TEXT NOT NULL,
  audit_sha256 TEXT NOT NULL,
  issued_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- `closed_at` is when it was settled or defaulted; `expires_at` is its time, rounded up. While `payment_id` names a
-- payment without an end, nobody else may touch it. `freed` says that what was held for it is given back.
CREATE TABLE credit_envelopes (
  envelope_id TEXT NOT NULL PRIMARY KEY,
  offer_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  pool_id TEXT NOT NULL,
  envelope TEXT NOT NULL,
  receipt TEXT NOT NULL,
  status TEXT NOT NULL,
  max_sats BIGINT NOT NULL CHECK (max_sats > 0),
  expires_at BIGINT NOT NULL,
  issued_at BIGINT NOT NULL,
  closed_at BIGINT,
  hold_id TEXT,
  holds BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  payment_id TEXT,
  freed BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  UNIQUE (offer_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_envelopes_open ON credit_envelopes (expires_at, envelope_id) WHERE closed_at IS NULL;
CREATE INDEX credit_envelopes_of_agent ON credit_envelopes (agent_id, expires_at);
CREATE INDEX credit_envelopes_unfreed ON credit_envelopes (expires_at, envelope_id) WHERE freed = 0 AND payment_id IS NULL;

-- One settlement an envelope, for ever. `created_at` is when it began, `recorded_at` when it was written.
CREATE TABLE credit_settlements (
  settlement_id TEXT NOT NULL PRIMARY KEY,
  envelope_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  pool_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  spent_sats BIGINT NOT NULL,
  fee_sats BIGINT NOT NULL,
  fingerprint TEXT NOT NULL,
  reply TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  UNIQUE (envelope_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_settlements_by_time ON credit_settlements (created_at);
CREATE INDEX credit_settlements_of_agent ON credit_settlements (agent_id, created_at);
CREATE INDEX credit_settlements_of_pool ON credit_settlements (pool_id, created_at);

-- Every attempt at paying an envelope's provider: written before the wallet is asked.
CREATE TABLE credit_payments (
  payment_id TEXT NOT NULL PRIMARY KEY,
  envelope_id TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  asked TEXT NOT NULL,
  evidence_id TEXT,
  status TEXT NOT NULL,
  error_code TEXT,
  amount BIGINT NOT NULL CHECK (amount > 0),
  host TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_payments_by_time ON credit_payments (created_at);

CREATE TABLE credit_receipts (
  entity_kind TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  receipt_schema TEXT NOT NULL,
  canonical_json_sha256 TEXT NOT NULL,
  receipt TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (entity_kind, entity_id, receipt_schema)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Verifications of our own, by the settlement that made each; one pays for one envelope.
CREATE TABLE credit_evidence (
  evidence_id TEXT NOT NULL PRIMARY KEY,
  receipt_sha256 TEXT NOT NULL,
  job_hash TEXT NOT NULL,
  passed BIGINT NOT NULL,
  consumed_by TEXT,
  issued_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_evidence_by_receipt ON credit_evidence (receipt_sha256, evidence_id);

-- What an agent owes a pool for one settlement.
CREATE TABLE credit_loans (
  settlement_id TEXT NOT NULL PRIMARY KEY,
  envelope_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  pool_id TEXT NOT NULL,
  account TEXT NOT NULL,
  principal BIGINT NOT NULL,
  routing BIGINT NOT NULL,
  fee BIGINT NOT NULL,
  repaid BIGINT NOT NULL,
  repayments BIGINT NOT NULL,
  status TEXT NOT NULL,
  due_at BIGINT NOT NULL,
  opened_at BIGINT NOT NULL,
  closed_at BIGINT,
  seal BIGINT NOT NULL,
  CHECK (repaid <= principal + routing + fee)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX credit_loans_due ON credit_loans (due_at, settlement_id) WHERE status = 'open';
CREATE INDEX credit_loans_of_agent ON credit_loans (agent_id, status, closed_at);

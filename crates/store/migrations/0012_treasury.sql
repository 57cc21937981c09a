-- The treasury of compute: what was settled for whom, and how that compares with the ledger and the runs. Amounts
-- are millisatoshis. The money itself is in the ledger only.

-- One row a settlement: an owner, a run, a job and an attempt, named by the hash of these. It is kept for ever,
-- because the same request is answered the same for ever.
CREATE TABLE compute_settlements (
  settlement_id TEXT NOT NULL PRIMARY KEY,
  owner_key TEXT NOT NULL,
  run_id BYTEA NOT NULL,
  job_hash TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  provider_id TEXT NOT NULL,
  worker_id TEXT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount > 0),
  operator_fee BIGINT NOT NULL CHECK (operator_fee >= 0),
  policy_adder BIGINT NOT NULL CHECK (policy_adder >= 0),
  status TEXT NOT NULL,
  verification_passed BIGINT,
  exit_code BIGINT,
  withheld_reason TEXT,
  dispatch_id TEXT,
  quote_sha256 TEXT,
  hold_id TEXT NOT NULL,
  reservations BIGINT NOT NULL,
  fingerprint BYTEA NOT NULL,
  receipt_sha256 TEXT,
  reply TEXT,
  reserved_at BIGINT NOT NULL,
  settled_at BIGINT,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  CHECK (status <> 'released' OR verification_passed = 1)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX compute_settlements_by_owner ON compute_settlements (owner_key, updated_at, settlement_id);
CREATE INDEX compute_settlements_reserved ON compute_settlements (job_hash, settlement_id) WHERE status = 'reserved';
CREATE INDEX compute_settlements_reserved_of ON compute_settlements (owner_key, job_hash, settlement_id) WHERE status = 'reserved';
CREATE INDEX compute_settlements_by_run ON compute_settlements (run_id, job_hash, attempt);
-- What a dispatch received is paid for once.
CREATE UNIQUE INDEX compute_settlements_by_dispatch ON compute_settlements (dispatch_id) WHERE dispatch_id IS NOT NULL;

-- What an owner's jobs brought to each provider, and all of them together: what a summary would have to add up.
CREATE TABLE compute_earnings (
  owner_key TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  earned BIGINT NOT NULL CHECK (earned >= 0),
  released_jobs BIGINT NOT NULL,
  withheld_jobs BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (owner_key, provider_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX compute_earnings_by_amount ON compute_earnings (owner_key, earned DESC, provider_id);

CREATE TABLE compute_totals (
  owner_key TEXT NOT NULL PRIMARY KEY,
  released BIGINT NOT NULL CHECK (released >= 0),
  released_jobs BIGINT NOT NULL,
  withheld_jobs BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Where a settlement, the ledger and the run differ, until they no longer do.
CREATE TABLE treasury_findings (
  settlement_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  first_seen_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (settlement_id, kind)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX treasury_findings_by_time ON treasury_findings (last_seen_at);

-- Which replica reconciles, until when, and where it stands.
CREATE TABLE treasury_watch (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until BIGINT NOT NULL,
  cursor TEXT NOT NULL,
  rounds BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

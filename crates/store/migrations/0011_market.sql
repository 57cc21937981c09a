-- The market for compute: prices that were promised, jobs that were sent to providers, what came back, and what
-- the service itself has seen of providers. Prices are millisatoshis.

-- A price that was promised to an owner for one job at one provider. It binds one dispatch, by its id and hash.
CREATE TABLE market_quotes (
  owner_key TEXT NOT NULL,
  quote_id TEXT NOT NULL,
  quote_sha256 TEXT NOT NULL,
  job_hash TEXT NOT NULL,
  capability TEXT NOT NULL,
  worker_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  provider_price BIGINT NOT NULL CHECK (provider_price >= 0),
  operator_fee BIGINT NOT NULL CHECK (operator_fee >= 0),
  policy_adder BIGINT NOT NULL CHECK (policy_adder >= 0),
  issued_at_unix BIGINT NOT NULL,
  valid_until_unix BIGINT NOT NULL,
  quote TEXT NOT NULL,
  dispatch_id TEXT,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (owner_key, quote_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX market_quotes_unused ON market_quotes (created_at) WHERE dispatch_id IS NULL;

-- One row a job that an owner had run, and where in the owner's budgets it lies: asked again in the same run with the same attempt, it is the same
-- dispatch. A run of zeros stands for none. `changes` counts what was written, so that whoever comes late with a
-- reply sees that the row has moved on.
CREATE TABLE market_dispatches (
  dispatch_id TEXT NOT NULL PRIMARY KEY,
  owner_key TEXT NOT NULL,
  run_id BYTEA NOT NULL,
  job_hash TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  state TEXT NOT NULL,
  calls BIGINT NOT NULL,
  worker_id TEXT,
  provider_id TEXT,
  quote_id TEXT,
  hold_id TEXT,
  request_sha256 TEXT NOT NULL,
  response_sha256 TEXT,
  signed_by TEXT,
  signature TEXT,
  reply TEXT,
  busy_until BIGINT,
  opened_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  answered_at BIGINT,
  organisation TEXT,
  repo TEXT,
  issue TEXT,
  seal BIGINT NOT NULL,
  UNIQUE (owner_key, run_id, job_hash, attempt)
);

-- Each call of a provider that a dispatch made, whatever came of it.
CREATE TABLE market_calls (
  dispatch_id TEXT NOT NULL,
  call_no BIGINT NOT NULL,
  worker_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  tier TEXT NOT NULL,
  quote_id TEXT,
  hold_id TEXT,
  outcome TEXT NOT NULL,
  detail TEXT,
  response_sha256 TEXT,
  latency_ms BIGINT,
  began_at BIGINT NOT NULL,
  ended_at BIGINT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (dispatch_id, call_no)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX market_calls_by_worker ON market_calls (worker_id, began_at);

-- Requests and responses as canonical JSON, under their SHA-256.
CREATE TABLE market_documents (
  sha256 TEXT NOT NULL PRIMARY KEY,
  document TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- How dispatching went for an owner; `latencies` holds the last ones, oldest first, with commas between.
CREATE TABLE market_telemetry (
  owner_key TEXT NOT NULL PRIMARY KEY,
  dispatch_total BIGINT NOT NULL,
  dispatch_not_found BIGINT NOT NULL,
  dispatch_errors BIGINT NOT NULL,
  dispatch_fallbacks BIGINT NOT NULL,
  latencies TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- What was seen of a provider: each kind of signal once for each subject (a dispatch, a settlement).
CREATE TABLE provider_signals (
  worker_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  job_hash TEXT,
  detail TEXT NOT NULL,
  seen_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (worker_id, kind, subject_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- The workers that an operator has put into the reserve pool, from which anybody may be served.
CREATE TABLE reserve_pool (
  worker_id TEXT NOT NULL PRIMARY KEY,
  since BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- For replicas that look what has become of workers since they looked last.
CREATE INDEX workers_by_change ON workers (updated_at, worker_id);

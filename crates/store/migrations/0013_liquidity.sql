-- Money over Lightning: prices of invoices, payments of them, and what proves each. Amounts are millisatoshis.
-- What a payment moved is in the ledger only.

-- A quote fixes what an invoice may cost. It is found by the key of whoever asked for it.
CREATE TABLE liquidity_quotes (
  quote_id TEXT NOT NULL PRIMARY KEY,
  principal TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  invoice TEXT NOT NULL,
  invoice_hash TEXT NOT NULL,
  payment_hash TEXT,
  payee TEXT,
  host TEXT NOT NULL,
  quoted_amount BIGINT NOT NULL CHECK (quoted_amount >= 0),
  max_amount BIGINT NOT NULL CHECK (max_amount >= quoted_amount),
  max_fee BIGINT NOT NULL CHECK (max_fee >= 0),
  urgency TEXT,
  policy_context TEXT NOT NULL,
  policy_context_sha256 TEXT NOT NULL,
  payer TEXT NOT NULL,
  valid_until BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX liquidity_quotes_by_key ON liquidity_quotes (principal, idempotency_key);

-- One row a payment, whoever wants it. It is kept for ever: asked for again, it is answered and not made.
CREATE TABLE liquidity_payments (
  payment_id TEXT NOT NULL PRIMARY KEY,
  lane TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  request_id TEXT NOT NULL,
  wallet_id TEXT NOT NULL,
  invoice TEXT NOT NULL,
  payment_hash TEXT,
  host TEXT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount >= 0),
  max_fee BIGINT NOT NULL CHECK (max_fee >= 0),
  payer TEXT,
  hold_id TEXT,
  run_id TEXT,
  trajectory_hash TEXT,
  status TEXT NOT NULL,
  asks BIGINT NOT NULL,
  next_ask_at BIGINT,
  not_after BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  completed_at BIGINT,
  latency_ms BIGINT,
  wallet_response TEXT,
  wallet_receipt_sha256 TEXT,
  preimage_sha256 TEXT,
  paid_at_ms BIGINT,
  settled_amount BIGINT,
  fee BIGINT,
  error_code TEXT,
  error_message TEXT,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  CHECK ((status IN ('succeeded', 'failed')) = (completed_at IS NOT NULL)),
  CHECK ((completed_at IS NULL) = (next_ask_at IS NOT NULL))
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What nobody knows the end of, the longest unasked first.
CREATE INDEX liquidity_payments_open ON liquidity_payments (next_ask_at, payment_id) WHERE next_ask_at IS NOT NULL;
-- Which payment a hold of the ledger is for.
CREATE INDEX liquidity_payments_by_hold ON liquidity_payments (hold_id, started_at, payment_id) WHERE hold_id IS NOT NULL;
-- An invoice is paid once, whoever wants it paid.
CREATE UNIQUE INDEX liquidity_payments_by_hash ON liquidity_payments (payment_hash) WHERE payment_hash IS NOT NULL AND status <> 'failed';

CREATE TABLE liquidity_receipts (
  quote_id TEXT NOT NULL PRIMARY KEY,
  receipt_schema TEXT NOT NULL,
  canonical_json_sha256 TEXT NOT NULL,
  receipt_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- How often what happened, over all replicas and restarts.
CREATE TABLE hydra_counters (
  name TEXT NOT NULL PRIMARY KEY,
  counted BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Where each breaker stands, and how often it has changed.
CREATE TABLE hydra_breakers (
  name TEXT NOT NULL PRIMARY KEY,
  is_open BIGINT NOT NULL,
  transitions BIGINT NOT NULL,
  recoveries BIGINT NOT NULL,
  changed_at BIGINT,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What a wallet was asked to do, written before it did it. Only `oa wallet` writes here, into a store of its own.
CREATE TABLE wallet_requests (
  kind TEXT NOT NULL,
  request_id TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  state TEXT NOT NULL,
  spend BIGINT NOT NULL CHECK (spend >= 0),
  asked TEXT NOT NULL,
  reply TEXT,
  error_code TEXT,
  error_message TEXT,
  begun_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (kind, request_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What was spent in the last while: what is forgotten or refused holds no spend.
CREATE INDEX wallet_requests_spent ON wallet_requests (begun_at, spend) WHERE spend > 0;
CREATE INDEX wallet_requests_open ON wallet_requests (begun_at, kind, request_id) WHERE state = 'in_flight';

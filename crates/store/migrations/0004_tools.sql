-- Tool calls, what they paid, and what awaits approval (control §11). Secrets (preimages, macaroons, requests
-- that wait for approval) are written by the service, sealed with its own key.

-- One row a call: who asked for exactly this, who works on it until when, and what was answered.
CREATE TABLE tool_calls (
  principal TEXT NOT NULL,
  receipt_hash TEXT NOT NULL,
  state TEXT NOT NULL,
  holder TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  lease_until BIGINT NOT NULL,
  first_seen BIGINT NOT NULL,
  begun_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  expires_at BIGINT,
  reply TEXT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (principal, receipt_hash)
);

CREATE INDEX tool_calls_by_expiry ON tool_calls (expires_at);

-- One row an invoice, for ever: it is committed before the payer hears of it, and what the payer said is the only
-- thing that ends it.
CREATE TABLE l402_payments (
  payment_hash TEXT NOT NULL PRIMARY KEY,
  subject TEXT NOT NULL,
  principal TEXT NOT NULL,
  state TEXT NOT NULL,
  payer TEXT NOT NULL,
  request_id TEXT NOT NULL,
  invoice TEXT NOT NULL,
  macaroon TEXT NOT NULL,
  origin TEXT NOT NULL,
  host TEXT NOT NULL,
  scope TEXT NOT NULL,
  autopilot TEXT NOT NULL,
  day TEXT NOT NULL,
  quoted_msats BIGINT,
  max_msats BIGINT NOT NULL,
  reserved_msats BIGINT NOT NULL,
  paid_msats BIGINT,
  payment_id TEXT,
  preimage TEXT,
  attempt BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- A call or a task has at most one payment that has not failed.
CREATE UNIQUE INDEX l402_payments_by_subject ON l402_payments (subject) WHERE state <> 'failed';
CREATE INDEX l402_payments_unresolved ON l402_payments (updated_at) WHERE state IN ('paying', 'unknown');

-- What somebody has spent, and what payments under way may still spend, on one day (UTC): for an autopilot, and
-- under the empty name for all together.
CREATE TABLE l402_spends (
  principal TEXT NOT NULL,
  autopilot TEXT NOT NULL,
  day TEXT NOT NULL,
  reserved_msats BIGINT NOT NULL,
  paid_msats BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (principal, autopilot, day)
);

CREATE TABLE l402_credentials (
  principal TEXT NOT NULL,
  origin TEXT NOT NULL,
  scope TEXT NOT NULL,
  credential TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (principal, origin, scope)
);

CREATE INDEX l402_credentials_by_expiry ON l402_credentials (expires_at);

-- A fetch that waits for somebody to agree to its price.
CREATE TABLE l402_tasks (
  task_id TEXT NOT NULL PRIMARY KEY,
  principal TEXT NOT NULL,
  state TEXT NOT NULL,
  held TEXT NOT NULL,
  payment_hash TEXT NOT NULL,
  origin TEXT NOT NULL,
  host TEXT NOT NULL,
  scope TEXT NOT NULL,
  autopilot TEXT NOT NULL,
  quoted_msats BIGINT,
  max_msats BIGINT NOT NULL,
  max_day_msats BIGINT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- What every lightning call came to, in the order in which they ended.
CREATE TABLE l402_receipts (
  receipt_id TEXT NOT NULL,
  principal TEXT NOT NULL,
  autopilot TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  run_status TEXT NOT NULL,
  status TEXT NOT NULL,
  task_id TEXT NOT NULL,
  paid BIGINT NOT NULL,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  event_id INTEGER PRIMARY KEY AUTOINCREMENT --@sqlite
  event_id BIGSERIAL PRIMARY KEY --@postgres
);

CREATE INDEX l402_receipts_by_principal ON l402_receipts (principal, event_id);
CREATE INDEX l402_receipts_by_autopilot ON l402_receipts (principal, autopilot, event_id);
CREATE INDEX l402_receipts_by_task ON l402_receipts (principal, task_id, event_id);

-- The whole result of a receipt whose answer is too long for a list.
CREATE TABLE l402_results (
  event_id BIGINT NOT NULL PRIMARY KEY,
  result TEXT NOT NULL,
  seal BIGINT NOT NULL
);

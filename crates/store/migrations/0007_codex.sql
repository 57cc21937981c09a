-- Codex workers, their events and requests (control §14). Times are microseconds since 1970; a seal covers
-- the columns before it.

-- oldest_seq and oldest_at say where the feed begins that is still kept. silent_since is set for workers whose
-- silence means something. When the worker itself last looked at its feed changes often and stands behind the seal.
CREATE TABLE codex_workers (
  worker_id TEXT NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,
  latest_seq BIGINT NOT NULL,
  oldest_seq BIGINT NOT NULL,
  oldest_at BIGINT,
  workspace_ref TEXT,
  codex_home_ref TEXT,
  adapter TEXT NOT NULL,
  metadata TEXT,
  started_at BIGINT NOT NULL,
  stopped_at BIGINT,
  last_heartbeat_at BIGINT,
  silent_since BIGINT,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  feed_seen_at BIGINT
);

CREATE INDEX codex_workers_by_owner ON codex_workers (user_id, updated_at, worker_id);
CREATE INDEX codex_workers_by_silence ON codex_workers (silent_since);
CREATE INDEX codex_workers_by_age ON codex_workers (oldest_at);

CREATE TABLE codex_events (
  worker_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  event_type TEXT NOT NULL,
  payload TEXT NOT NULL,
  occurred_at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  event_id TEXT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (worker_id, seq)
);

CREATE UNIQUE INDEX codex_events_by_id ON codex_events (worker_id, event_id);

-- What was asked of a worker, once per request id, whatever its length. deadline_at is set while it is pending.
-- receipt is the fingerprint of the event that ended it.
CREATE TABLE codex_requests (
  worker_id TEXT NOT NULL,
  request_key BYTEA NOT NULL,
  request_id TEXT NOT NULL,
  fingerprint BYTEA NOT NULL,
  method TEXT NOT NULL,
  thread_id TEXT,
  source TEXT,
  request_version TEXT,
  session_id TEXT,
  state TEXT NOT NULL,
  answer TEXT,
  receipt BYTEA,
  receipt_seq BIGINT,
  created_at BIGINT NOT NULL,
  deadline_at BIGINT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (worker_id, request_key)
);

CREATE INDEX codex_requests_by_deadline ON codex_requests (deadline_at);
CREATE INDEX codex_requests_pending ON codex_requests (worker_id, deadline_at);

-- Questions of codex for permission, and the one decision that answers each.
CREATE TABLE codex_approvals (
  worker_id TEXT NOT NULL,
  approval_key BYTEA NOT NULL,
  approval_id TEXT NOT NULL,
  asked_seq BIGINT NOT NULL,
  decision TEXT,
  decided_seq BIGINT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (worker_id, approval_key)
);

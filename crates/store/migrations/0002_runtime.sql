-- What the runtime is the authority for: runs and their log, workers, streams, deliveries, incidents.
-- Times are microseconds since 1970. A seal covers the columns before it.

-- What a run was begun with; never changes.
CREATE TABLE runs (
  run_id BYTEA NOT NULL PRIMARY KEY,
  owner_key TEXT,
  worker_id TEXT,
  metadata TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX runs_by_owner ON runs (owner_key, run_id);

-- Where a run stands. One small row, rewritten by every append, so it holds nothing that grows. The columns
-- from projected_seq on are the projection of the log, changed in the transaction of the append.
CREATE TABLE run_heads (
  run_id BYTEA NOT NULL PRIMARY KEY,
  owner_key TEXT,
  status TEXT NOT NULL,
  latest_seq BIGINT NOT NULL,
  last_position BIGINT NOT NULL,
  chain BYTEA NOT NULL,
  updated_at BIGINT NOT NULL,
  projected_seq BIGINT NOT NULL,
  projected_count BIGINT NOT NULL,
  projected_status TEXT NOT NULL,
  projected_event_type TEXT NOT NULL,
  projected_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- The log of all runs, in the order of writing. It has no second index on SQLite, where one would cost a
-- factor of three: there a run's events are found through run_blocks and the links in previous_position.
-- On PostgreSQL, where several writers exist, the order within a run is a constraint.
CREATE TABLE run_events (
  run_id BYTEA NOT NULL,
  seq BIGINT NOT NULL,
  event_type TEXT NOT NULL,
  payload TEXT NOT NULL,
  idempotency_key TEXT,
  recorded_at BIGINT NOT NULL,
  actor BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  previous_position BIGINT NOT NULL,
  UNIQUE (run_id, seq), --@postgres
  position BIGSERIAL PRIMARY KEY --@postgres
  position INTEGER PRIMARY KEY --@sqlite
);

-- Where the events of each full block of a run stand in the log.
CREATE TABLE run_blocks ( --@sqlite
  run_id BYTEA NOT NULL, --@sqlite
  block BIGINT NOT NULL, --@sqlite
  positions BYTEA NOT NULL, --@sqlite
  seal BIGINT NOT NULL, --@sqlite
  PRIMARY KEY (run_id, block) --@sqlite
) WITHOUT ROWID; --@sqlite

-- Which event a key became. Callers and the service have a namespace each.
CREATE TABLE run_event_keys (
  run_id BYTEA NOT NULL,
  actor BIGINT NOT NULL,
  idempotency_key TEXT NOT NULL,
  fingerprint BYTEA NOT NULL,
  seq BIGINT NOT NULL,
  position BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (run_id, actor, idempotency_key)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Reputation (from qualified_at to marks) is the service's own: nothing that a worker writes reaches it.
CREATE TABLE workers (
  worker_id TEXT NOT NULL PRIMARY KEY,
  owner_key TEXT NOT NULL,
  workspace_ref TEXT,
  codex_home_ref TEXT,
  adapter TEXT NOT NULL,
  status TEXT NOT NULL,
  latest_seq BIGINT NOT NULL,
  metadata TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  stopped_at BIGINT,
  last_heartbeat_at BIGINT,
  updated_at BIGINT NOT NULL,
  qualified_at BIGINT,
  failure_strikes BIGINT NOT NULL,
  success_count BIGINT NOT NULL,
  quarantined_at BIGINT,
  quarantine_reason TEXT,
  marks TEXT NOT NULL,
  projected_seq BIGINT NOT NULL,
  projected_count BIGINT NOT NULL,
  projected_status TEXT NOT NULL,
  projected_event_type TEXT NOT NULL,
  projected_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE INDEX workers_by_owner ON workers (owner_key, worker_id);
CREATE INDEX workers_by_heartbeat ON workers (status, last_heartbeat_at);

CREATE TABLE worker_events (
  worker_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  event_type TEXT NOT NULL,
  payload TEXT NOT NULL,
  recorded_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (worker_id, seq)
);

-- Streams other than those of runs, whose log is their stream.
CREATE TABLE stream_heads (
  stream_id TEXT NOT NULL PRIMARY KEY,
  head_seq BIGINT NOT NULL,
  oldest_seq BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE TABLE stream_events (
  stream_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  topic TEXT NOT NULL,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL,
  published_at BIGINT NOT NULL,
  outbox_id BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (stream_id, seq)
);

CREATE UNIQUE INDEX stream_events_by_outbox ON stream_events (stream_id, outbox_id);

CREATE TABLE delivery_events (
  provider TEXT NOT NULL,
  event_id TEXT NOT NULL,
  delivery_state TEXT NOT NULL,
  message_id TEXT,
  integration_id TEXT,
  recipient TEXT,
  occurred_at TEXT,
  reason TEXT,
  payload TEXT NOT NULL,
  fingerprint BYTEA NOT NULL,
  received_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (provider, event_id)
);

CREATE TABLE fraud_incidents (
  incident_id TEXT NOT NULL UNIQUE,
  incident_type TEXT NOT NULL,
  severity TEXT NOT NULL,
  provider_id TEXT,
  provider_worker_id TEXT,
  job_hash TEXT,
  run_id BYTEA,
  quote_sha256 TEXT,
  actions TEXT NOT NULL,
  evidence TEXT,
  created_at BIGINT NOT NULL,
  occurrences BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  position BIGSERIAL PRIMARY KEY --@postgres
  position INTEGER PRIMARY KEY AUTOINCREMENT --@sqlite
);

CREATE INDEX fraud_incidents_by_type ON fraud_incidents (incident_type, position);
CREATE INDEX fraud_incidents_by_worker ON fraud_incidents (provider_worker_id, position);

CREATE TABLE projection_drifts (
  topic TEXT NOT NULL PRIMARY KEY,
  expected_next_seq BIGINT NOT NULL,
  last_seen_seq BIGINT NOT NULL,
  incoming_seq BIGINT NOT NULL,
  reason TEXT NOT NULL,
  detected_at BIGINT NOT NULL,
  status TEXT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE TABLE revocations (
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  reason TEXT,
  revoked_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (kind, subject)
);

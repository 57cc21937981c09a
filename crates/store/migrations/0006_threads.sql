-- Threads, their messages and turns (control §13). Times are microseconds since 1970; a seal covers the
-- columns before it.

CREATE TABLE threads (
  thread_id TEXT NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  autopilot_id TEXT,
  title TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  message_count BIGINT NOT NULL,
  last_message_at BIGINT,
  seal BIGINT NOT NULL
);

CREATE INDEX threads_by_owner ON threads (user_id, org_id, updated_at, thread_id);
CREATE INDEX threads_by_autopilot ON threads (autopilot_id, updated_at, thread_id);

-- item_key says which item of codex a message is, so that an item told twice is said once.
CREATE TABLE thread_messages (
  thread_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  message_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  turn_id TEXT,
  item_key BYTEA,
  seal BIGINT NOT NULL,
  PRIMARY KEY (thread_id, seq)
);

CREATE UNIQUE INDEX thread_messages_by_item ON thread_messages (thread_id, item_key);

-- A turn of codex. turn_id is codex's own.
CREATE TABLE thread_turns (
  thread_id TEXT NOT NULL,
  turn_id TEXT NOT NULL,
  worker_id TEXT NOT NULL,
  request_id TEXT,
  status TEXT NOT NULL,
  model TEXT,
  started_at BIGINT NOT NULL,
  ended_at BIGINT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (thread_id, turn_id)
);

CREATE INDEX thread_turns_by_start ON thread_turns (thread_id, started_at, turn_id);
CREATE INDEX thread_turns_by_worker ON thread_turns (worker_id, status, started_at);

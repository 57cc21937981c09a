-- What every part of the runtime leans on: work to be done after a commit, and the memory of answers
-- already given. A line that ends with an engine's mark exists on that engine only.

CREATE TABLE store_probe (
  id BIGINT NOT NULL PRIMARY KEY,
  beats BIGINT NOT NULL
);

-- The seal covers the columns before it; what changes while a message is delivered stands after it.
CREATE TABLE outbox (
  topic TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  id INTEGER PRIMARY KEY AUTOINCREMENT, --@sqlite
  id BIGSERIAL PRIMARY KEY, --@postgres
  attempts BIGINT NOT NULL DEFAULT 0,
  next_attempt_at BIGINT NOT NULL DEFAULT 0,
  leased_until BIGINT NOT NULL DEFAULT 0,
  last_error TEXT
);

CREATE INDEX outbox_by_topic ON outbox (topic, id);

-- Messages nobody could deliver. Kept whole, so that a person can read why and send them again.
CREATE TABLE outbox_dead (
  topic TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  id BIGINT NOT NULL PRIMARY KEY,
  attempts BIGINT NOT NULL,
  died_at BIGINT NOT NULL,
  last_error TEXT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE TABLE idempotency_records (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint BYTEA NOT NULL,
  status BIGINT NOT NULL,
  reply TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_records_by_age ON idempotency_records (created_at);

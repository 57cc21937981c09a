-- What is told to Nostr relays. A relay that is listed here is told; none listed, nothing is told.

-- The relays that the runtime is configured with. `primed`: whether it has been given every ad that stands.
CREATE TABLE bridge_relays (
  url TEXT NOT NULL PRIMARY KEY,
  added_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  primed BIGINT NOT NULL DEFAULT 0
);

-- What a relay has not acknowledged yet. A later event of one address takes the place of an earlier one. What changes
-- while an event is delivered stands behind the seal; without a next attempt it was given up.
CREATE TABLE bridge_outgoing (
  relay TEXT NOT NULL,
  address TEXT NOT NULL,
  event_id TEXT NOT NULL,
  kind BIGINT NOT NULL,
  event TEXT NOT NULL,
  queued_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  attempts BIGINT NOT NULL DEFAULT 0,
  next_attempt_at BIGINT DEFAULT 0,
  last_error TEXT,
  PRIMARY KEY (relay, address)
);

CREATE INDEX bridge_outgoing_by_attempt ON bridge_outgoing (relay, next_attempt_at, queued_at);
CREATE INDEX bridge_outgoing_by_age ON bridge_outgoing (relay, queued_at);

-- The ad that stands under each address, and the worker that it is of; nobody's once it was taken back.
CREATE TABLE bridge_ads (
  address TEXT NOT NULL PRIMARY KEY,
  worker_id TEXT NOT NULL,
  digest TEXT NOT NULL,
  created_at_unix BIGINT NOT NULL,
  event TEXT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE INDEX bridge_ads_by_worker ON bridge_ads (worker_id, address);

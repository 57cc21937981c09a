-- Exchange between assets: requests for quotes, quotes, choices, settlements. Amounts stand in the documents, in
-- the unit that each names; the money itself is in the ledger only.

-- One row a request. `rfq` is what was asked, and never changes; the other columns are where it stands. `holds`
-- counts the transfers that were made for it, so that each has a name of its own.
CREATE TABLE fx_rfqs (
  rfq_id TEXT NOT NULL PRIMARY KEY,
  requester_id TEXT NOT NULL,
  rfq TEXT NOT NULL,
  status TEXT NOT NULL,
  expires_at_unix BIGINT NOT NULL,
  quotes BIGINT NOT NULL,
  selections BIGINT NOT NULL,
  selected_quote_id TEXT,
  hold_id TEXT,
  holds BIGINT NOT NULL,
  settlement_id TEXT,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX fx_rfqs_due ON fx_rfqs (expires_at_unix, rfq_id) WHERE status IN ('open', 'quoted', 'selected');

-- A quote never changes but for its status.
CREATE TABLE fx_quotes (
  quote_id TEXT NOT NULL PRIMARY KEY,
  rfq_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  quote TEXT NOT NULL,
  status TEXT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX fx_quotes_of_rfq ON fx_quotes (rfq_id, quote_id);

-- Every choice that was made for a request, as it was answered.
CREATE TABLE fx_selections (
  rfq_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  quote_id TEXT NOT NULL,
  policy TEXT NOT NULL,
  decision_sha256 TEXT NOT NULL,
  reply TEXT NOT NULL,
  decided_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (rfq_id, number)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- A quote is settled once, and of a request's quotes at most one is paid.
CREATE TABLE fx_settlements (
  quote_id TEXT NOT NULL PRIMARY KEY,
  settlement_id TEXT NOT NULL,
  rfq_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  status TEXT NOT NULL,
  context_sha256 TEXT NOT NULL,
  transfer_id TEXT,
  reply TEXT NOT NULL,
  settled_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX fx_settlements_by_id ON fx_settlements (settlement_id);
CREATE UNIQUE INDEX fx_settlements_paid ON fx_settlements (rfq_id) WHERE status = 'released';

-- What was asked under which key: of an operation, by whom. Without a reply the subject is answered as it stands.
CREATE TABLE fx_keys (
  operation TEXT NOT NULL,
  principal TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  subject TEXT NOT NULL,
  reply TEXT,
  kept_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (operation, principal, idempotency_key)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What a source said last of two assets: so many units of the one are worth so many of the other.
CREATE TABLE fx_rates (
  sell_asset TEXT NOT NULL,
  buy_asset TEXT NOT NULL,
  source TEXT NOT NULL,
  sell_unit TEXT NOT NULL,
  sell_units BIGINT NOT NULL CHECK (sell_units > 0),
  buy_unit TEXT NOT NULL,
  buy_units BIGINT NOT NULL CHECK (buy_units > 0),
  observed_at_unix BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (sell_asset, buy_asset, source)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- How a provider's settlements ended: what it says of its own reliability counts for the oldest policy only.
CREATE TABLE fx_makers (
  provider_id TEXT NOT NULL PRIMARY KEY,
  released BIGINT NOT NULL,
  late BIGINT NOT NULL,
  refused BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Sums of everything, over several rows so that exchanges do not wait for each other.
CREATE TABLE fx_counters (
  stripe BIGINT NOT NULL PRIMARY KEY,
  rfqs BIGINT NOT NULL,
  quotes BIGINT NOT NULL,
  settlements BIGINT NOT NULL,
  withheld BIGINT NOT NULL,
  providers BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- How many settlements had which spread: at most as many rows as there are spreads.
CREATE TABLE fx_spreads (
  spread_bps BIGINT NOT NULL PRIMARY KEY,
  settlements BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Liquidity pools: who has deposited what, who wants to leave, what was promised and signed. Prices and estimates are
-- whole sats, everything else is millisatoshis. What a pool holds and who has which shares is in the ledger only.

CREATE TABLE liquidity_pools (
  pool_id TEXT NOT NULL PRIMARY KEY,
  pool_kind TEXT NOT NULL,
  operator_id TEXT NOT NULL,
  status TEXT NOT NULL,
  config TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What would have to be added up: pending estimates, promises whose shares are locked, holds of payouts under way.
CREATE TABLE liquidity_pool_partitions (
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  pending_sats BIGINT NOT NULL CHECK (pending_sats >= 0),
  owed BIGINT NOT NULL CHECK (owed >= 0),
  paying BIGINT NOT NULL CHECK (paying >= 0),
  shares_version BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (pool_id, partition_kind)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Who has, or had, shares of a partition. How many stands in the ledger.
CREATE TABLE liquidity_lp_accounts (
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  lp_id TEXT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (pool_id, partition_kind, lp_id)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE TABLE liquidity_deposits (
  deposit_id TEXT NOT NULL PRIMARY KEY,
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  lp_id TEXT NOT NULL,
  rail TEXT NOT NULL,
  amount_sats BIGINT NOT NULL CHECK (amount_sats > 0),
  share_price_sats BIGINT NOT NULL CHECK (share_price_sats > 0),
  shares_minted BIGINT NOT NULL CHECK (shares_minted >= 0),
  status TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  wallet_request_id TEXT NOT NULL,
  invoice_bolt11 TEXT,
  invoice_hash TEXT,
  payment_hash TEXT,
  deposit_address TEXT,
  received BIGINT,
  evidence TEXT,
  look_at BIGINT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  confirmed_at BIGINT,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX liquidity_deposits_by_key ON liquidity_deposits (pool_id, partition_kind, lp_id, idempotency_key);
-- One payment mints once.
CREATE UNIQUE INDEX liquidity_deposits_by_evidence ON liquidity_deposits (evidence) WHERE evidence IS NOT NULL;
CREATE INDEX liquidity_deposits_by_address ON liquidity_deposits (deposit_address) WHERE deposit_address IS NOT NULL;
-- What the wallet is asked about, the longest unasked first.
CREATE INDEX liquidity_deposits_open ON liquidity_deposits (look_at, deposit_id) WHERE look_at IS NOT NULL;

-- `due_at` is when the queue looks at it next; null once it has ended or is in the hands of the signers. `owed` is what
-- the pool sets aside for the shares, the payout and its way; what the way did not cost is `returned` as shares. `tries`
-- are rounds that failed for the payee's sake, `asks` how often the wallet was asked to send in this round.
CREATE TABLE liquidity_withdrawals (
  withdrawal_id TEXT NOT NULL PRIMARY KEY,
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  lp_id TEXT NOT NULL,
  shares_burned BIGINT NOT NULL CHECK (shares_burned > 0),
  amount_sats_estimate BIGINT NOT NULL CHECK (amount_sats_estimate >= 0),
  rail_preference TEXT NOT NULL,
  status TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  earliest_settlement_at BIGINT NOT NULL,
  payout_invoice_bolt11 TEXT,
  payout_invoice_hash TEXT,
  payment_hash TEXT,
  payout_address TEXT,
  locked BIGINT NOT NULL,
  round BIGINT NOT NULL,
  request_id TEXT,
  paying BIGINT NOT NULL CHECK (paying >= 0),
  not_after BIGINT,
  signing_request_id TEXT,
  due_at BIGINT,
  wallet_receipt_sha256 TEXT,
  last_error TEXT,
  created_at BIGINT NOT NULL,
  paid_at BIGINT,
  owed BIGINT NOT NULL CHECK (owed >= 0),
  returned BIGINT NOT NULL CHECK (returned >= 0),
  tries BIGINT NOT NULL,
  asks BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  CHECK ((status = 'paid') = (paid_at IS NOT NULL)),
  CHECK (paying = 0 OR request_id IS NOT NULL)
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX liquidity_withdrawals_by_key ON liquidity_withdrawals (pool_id, partition_kind, lp_id, idempotency_key);
CREATE INDEX liquidity_withdrawals_due ON liquidity_withdrawals (due_at, created_at, withdrawal_id) WHERE due_at IS NOT NULL;
-- An invoice is the payout of one withdrawal.
CREATE UNIQUE INDEX liquidity_withdrawals_by_hash ON liquidity_withdrawals (payment_hash) WHERE payment_hash IS NOT NULL AND status NOT IN ('failed', 'canceled');

CREATE TABLE liquidity_pool_snapshots (
  snapshot_id TEXT NOT NULL PRIMARY KEY,
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  as_of BIGINT NOT NULL,
  assets_json TEXT NOT NULL,
  liabilities_json TEXT NOT NULL,
  share_price_sats BIGINT NOT NULL,
  canonical_json_sha256 TEXT NOT NULL,
  signature_json TEXT,
  tree_id TEXT NOT NULL,
  tree_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX liquidity_pool_snapshots_by_time ON liquidity_pool_snapshots (pool_id, partition_kind, as_of, created_at, snapshot_id);
CREATE INDEX liquidity_pool_snapshots_by_tree ON liquidity_pool_snapshots (tree_id);

-- The leaves of a sum tree. As long as no share moves, one tree serves every snapshot.
CREATE TABLE liquidity_pool_trees (
  tree_id TEXT NOT NULL PRIMARY KEY,
  pool_id TEXT NOT NULL,
  partition_kind TEXT NOT NULL,
  shares_version BIGINT NOT NULL,
  leaves TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX liquidity_pool_trees_by_version ON liquidity_pool_trees (pool_id, partition_kind, shares_version);

-- The first receipt of each kind for each thing; another one never replaces it.
CREATE TABLE liquidity_pool_receipts (
  receipt_id TEXT NOT NULL PRIMARY KEY,
  entity_kind TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  receipt_schema TEXT NOT NULL,
  canonical_json_sha256 TEXT NOT NULL,
  receipt_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX liquidity_pool_receipts_by_entity ON liquidity_pool_receipts (entity_kind, entity_id, receipt_schema);

CREATE TABLE liquidity_pool_signer_sets (
  pool_id TEXT NOT NULL PRIMARY KEY,
  threshold BIGINT NOT NULL,
  signers_json TEXT NOT NULL,
  policy_json TEXT NOT NULL,
  canonical_json_sha256 TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE TABLE liquidity_pool_signing_requests (
  request_id TEXT NOT NULL PRIMARY KEY,
  pool_id TEXT NOT NULL,
  action_class TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  payload_json TEXT NOT NULL,
  payload_sha256 TEXT NOT NULL,
  required_signatures BIGINT NOT NULL,
  status TEXT NOT NULL,
  execution_result_json TEXT,
  executed_at BIGINT,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE UNIQUE INDEX liquidity_pool_signing_by_key ON liquidity_pool_signing_requests (pool_id, action_class, idempotency_key);
CREATE INDEX liquidity_pool_signing_by_time ON liquidity_pool_signing_requests (pool_id, created_at, request_id);
CREATE INDEX liquidity_pool_signing_by_status ON liquidity_pool_signing_requests (pool_id, status, created_at, request_id);

CREATE TABLE liquidity_pool_signing_approvals (
  request_id TEXT NOT NULL,
  signer_pubkey TEXT NOT NULL,
  approval_id TEXT NOT NULL,
  signature_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (request_id, signer_pubkey)
) WITHOUT ROWID --@sqlite
) --@postgres
;

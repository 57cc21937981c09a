-- The ledger: accounts, the transfers between them, the entries that transfers leave in accounts; and which
-- budgets were set. Amounts are whole numbers of the asset's smallest unit.

-- The four sums change in the transaction of the entries that make them. A null overdraft means no floor: the
-- account stands for the world. The check is the last of three places that refuse to go below the floor.
CREATE TABLE ledger_accounts (
  account_id TEXT NOT NULL PRIMARY KEY,
  asset TEXT NOT NULL,
  overdraft BIGINT,
  closed BIGINT NOT NULL,
  debits_pending BIGINT NOT NULL CHECK (debits_pending >= 0),
  debits_posted BIGINT NOT NULL CHECK (debits_posted >= 0),
  credits_pending BIGINT NOT NULL CHECK (credits_pending >= 0),
  credits_posted BIGINT NOT NULL CHECK (credits_posted >= 0),
  entries BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  CHECK (overdraft IS NULL OR overdraft - debits_pending >= debits_posted - credits_posted)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- One row a transfer, whatever becomes of it. It leaves `pending` once.
CREATE TABLE ledger_transfers (
  transfer_id TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL,
  held BIGINT NOT NULL,
  expires_at BIGINT,
  reference TEXT NOT NULL,
  opened_at BIGINT NOT NULL,
  ended_at BIGINT,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX ledger_holds_by_expiry ON ledger_transfers (expires_at, transfer_id) WHERE state = 'pending';

-- The legs of a transfer, and the numbers of the entries that each left in its two accounts.
CREATE TABLE ledger_legs (
  transfer_id TEXT NOT NULL,
  leg BIGINT NOT NULL,
  debit_account TEXT NOT NULL,
  credit_account TEXT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount > 0),
  captured BIGINT CHECK (captured >= 0 AND captured <= amount),
  opened_debit BIGINT NOT NULL,
  opened_credit BIGINT NOT NULL,
  ended_debit BIGINT,
  ended_credit BIGINT,
  seal BIGINT NOT NULL,
  PRIMARY KEY (transfer_id, leg)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- What an account is the sum of. Numbered without gaps, inserted only.
CREATE TABLE ledger_entries (
  account_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  transfer_id TEXT NOT NULL,
  leg BIGINT NOT NULL,
  side TEXT NOT NULL,
  step TEXT NOT NULL,
  pending BIGINT NOT NULL,
  posted BIGINT NOT NULL,
  at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (account_id, seq)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Which budgets somebody has set, and for what. The limit is the floor of the account: it stands there only.
CREATE TABLE budgets (
  owner_key TEXT NOT NULL,
  scope TEXT NOT NULL,
  organisation TEXT,
  repo TEXT,
  issue TEXT,
  run_id BYTEA,
  set_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  position BIGSERIAL PRIMARY KEY, --@postgres
  position INTEGER PRIMARY KEY AUTOINCREMENT, --@sqlite
  UNIQUE (owner_key, scope)
);

CREATE INDEX budgets_by_owner ON budgets (owner_key, position);

-- What several replicas agree on: who does what only one of them should do, and which credentials were used.
-- Times are microseconds since 1970. A seal covers the columns before it.

-- Who does a job at the moment. The token grows by one whenever the job is taken anew: what an earlier holder
-- still has in hand carries a smaller one, and is not kept.
CREATE TABLE leases (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  token BIGINT NOT NULL,
  taken_at BIGINT NOT NULL,
  until BIGINT NOT NULL,
  seal BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- The terms that are over, so that anybody can see that no two of a job ever overlapped.
CREATE TABLE lease_terms (
  name TEXT NOT NULL,
  token BIGINT NOT NULL,
  holder TEXT NOT NULL,
  taken_at BIGINT NOT NULL,
  until BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (name, token)
) WITHOUT ROWID --@sqlite
) --@postgres
;

-- Signed credentials that were used, by 128 bits of the hash of their nonce, until they are good no longer.
CREATE TABLE used_credentials (
  nonce BYTEA NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL
) WITHOUT ROWID --@sqlite
) --@postgres
;

CREATE INDEX used_credentials_by_end ON used_credentials (expires_at);

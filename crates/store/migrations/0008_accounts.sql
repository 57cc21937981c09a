-- Organisations, roles, and the keys of sync tokens (control §6, §7).

CREATE TABLE organisations (
  org_id TEXT NOT NULL PRIMARY KEY,
  slug TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- What a user is in an organisation. The scopes of the role are kept with it: they are what was granted.
CREATE TABLE memberships (
  user_id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  org_slug TEXT NOT NULL,
  role TEXT NOT NULL,
  role_scopes TEXT NOT NULL,
  default_org BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (user_id, org_id)
);

-- The keys that sign sync tokens. Only the public half is kept: the private half is derived from a secret that
-- the store never sees, so that a copy of this table signs nothing. `kid` names the key in the tokens. There are
-- few keys at any time, so they need no index.
CREATE TABLE sync_keys (
  kid TEXT NOT NULL PRIMARY KEY,
  public_key BYTEA NOT NULL,
  made_at BIGINT NOT NULL,
  retired_at BIGINT,
  served_until BIGINT,
  seal BIGINT NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (user_id, issued_at);
CREATE INDEX sessions_by_user_and_status ON sessions (user_id, status);
CREATE INDEX personal_tokens_by_end ON personal_tokens (revoked_at);

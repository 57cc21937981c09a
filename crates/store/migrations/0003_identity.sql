-- Who may use the control service. Of every secret only its SHA-256 is kept; a copy of these tables lets
-- nobody in.

CREATE TABLE users (
  user_id TEXT NOT NULL PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  provider_id TEXT NOT NULL UNIQUE,
  admin BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

-- A code that was sent and not yet tried. The first attempt removes it, right or wrong.
CREATE TABLE auth_challenges (
  challenge_hash BYTEA NOT NULL PRIMARY KEY,
  email TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE INDEX auth_challenges_by_expiry ON auth_challenges (expires_at);

CREATE TABLE sessions (
  session_id TEXT NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  email TEXT NOT NULL,
  device_id TEXT NOT NULL,
  token_name TEXT NOT NULL,
  active_org_id TEXT NOT NULL,
  access_hash BYTEA NOT NULL UNIQUE,
  refresh_hash BYTEA NOT NULL UNIQUE,
  refresh_token_id TEXT NOT NULL,
  issued_at BIGINT NOT NULL,
  access_expires_at BIGINT NOT NULL,
  refresh_expires_at BIGINT NOT NULL,
  status TEXT NOT NULL,
  reauth_required BIGINT NOT NULL,
  last_refreshed_at BIGINT,
  revoked_at BIGINT,
  revoked_reason TEXT,
  seal BIGINT NOT NULL
);

CREATE INDEX sessions_by_device ON sessions (user_id, device_id, status);
CREATE INDEX sessions_by_end ON sessions (refresh_expires_at);

-- Refresh tokens that were used up. Whoever presents one again has stolen it, or was stolen from.
CREATE TABLE spent_refresh_tokens (
  token_hash BYTEA NOT NULL PRIMARY KEY,
  refresh_token_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  revoked_at BIGINT NOT NULL,
  reason TEXT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE INDEX spent_refresh_tokens_by_session ON spent_refresh_tokens (session_id);

-- What changes with every use stands after the seal.
CREATE TABLE personal_tokens (
  token_id TEXT NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT NOT NULL,
  token_hash BYTEA NOT NULL UNIQUE,
  abilities TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  seal BIGINT NOT NULL,
  last_used_at BIGINT
);

CREATE INDEX personal_tokens_by_user ON personal_tokens (user_id, created_at);

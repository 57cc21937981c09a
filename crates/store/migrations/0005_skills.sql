-- The registry of tools and skills, and its releases (control §12). Ids and names are kept in lower case where
-- they are looked up, and ordered by their bytes on both engines. A seal covers the columns before it.

-- What an organisation has stored: of each kind one row an id and version. A row once published keeps its text.
CREATE TABLE specs (
  org_id TEXT NOT NULL, --@sqlite
  org_id TEXT COLLATE "C" NOT NULL, --@postgres
  kind TEXT NOT NULL,
  spec_key TEXT NOT NULL, --@sqlite
  spec_key TEXT COLLATE "C" NOT NULL, --@postgres
  version BIGINT NOT NULL,
  spec_id TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  tool_pack TEXT,
  state TEXT NOT NULL,
  frozen BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  spec_bytes BIGINT NOT NULL,
  spec TEXT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (org_id, kind, spec_key, version)
);

-- What was published, with the text that it was published with; never changes.
CREATE TABLE skill_releases (
  org_id TEXT NOT NULL, --@sqlite
  org_id TEXT COLLATE "C" NOT NULL, --@postgres
  skill_key TEXT NOT NULL, --@sqlite
  skill_key TEXT COLLATE "C" NOT NULL, --@postgres
  version BIGINT NOT NULL,
  bundle_hash BYTEA NOT NULL,
  published_by TEXT NOT NULL,
  published_at BIGINT NOT NULL,
  signature TEXT,
  public BIGINT NOT NULL,
  spec TEXT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (org_id, skill_key, version)
);

-- Who may publish under a name that everybody sees, and what everybody sees of it; nothing when no public
-- version is left.
CREATE TABLE public_skills (
  name TEXT NOT NULL PRIMARY KEY, --@sqlite
  name TEXT COLLATE "C" NOT NULL PRIMARY KEY, --@postgres
  org_id TEXT NOT NULL,
  version BIGINT,
  artifact TEXT NOT NULL,
  description TEXT NOT NULL,
  digest BYTEA NOT NULL,
  seal BIGINT NOT NULL
);

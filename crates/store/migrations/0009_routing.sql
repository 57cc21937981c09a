-- Autopilots, and what overrides the routing of pages and of runs (control §9, §19). Times are microseconds since
-- 1970; a seal covers the columns before it.

-- A personal agent. policy is JSON: which tools it may use and what it may spend. runtime_type is the type of its
-- primary runtime binding.
CREATE TABLE autopilots (
  autopilot_id TEXT NOT NULL PRIMARY KEY,
  user_id TEXT NOT NULL,
  handle TEXT NOT NULL,
  display_name TEXT NOT NULL,
  avatar TEXT,
  tagline TEXT,
  status TEXT NOT NULL,
  visibility TEXT NOT NULL,
  runtime_type TEXT,
  policy TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL
);

CREATE UNIQUE INDEX autopilots_by_handle ON autopilots (user_id, handle);
CREATE INDEX autopilots_by_owner ON autopilots (user_id, updated_at, autopilot_id);

-- What overrides the route split: one row a scope ('' for everything, or a domain) and kind ('target' or 'htmx').
CREATE TABLE route_split_overrides (
  domain TEXT NOT NULL,
  kind TEXT NOT NULL,
  value TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (domain, kind)
);

-- Which driver runs the threads of a user or an autopilot. meta is JSON.
CREATE TABLE driver_overrides (
  scope_type TEXT NOT NULL,
  scope_id TEXT NOT NULL,
  override_id TEXT NOT NULL,
  driver TEXT NOT NULL,
  is_active BIGINT NOT NULL,
  reason TEXT,
  meta TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seal BIGINT NOT NULL,
  PRIMARY KEY (scope_type, scope_id)
);

CREATE INDEX driver_overrides_by_change ON driver_overrides (updated_at, override_id);

INSERT INTO hydra_breakers (name, is_open, transitions, recoveries, changed_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name)
DO UPDATE SET is_open = excluded.is_open, transitions = excluded.transitions, recoveries = excluded.recoveries,
  changed_at = excluded.changed_at, seal = excluded.seal

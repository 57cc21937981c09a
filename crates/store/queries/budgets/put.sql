INSERT INTO budgets (owner_key, scope, organisation, repo, issue, run_id, set_at, changed_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (owner_key, scope) DO UPDATE SET organisation = excluded.organisation, repo = excluded.repo, issue = excluded.issue,
  run_id = excluded.run_id, set_at = excluded.set_at, changed_at = excluded.changed_at, seal = excluded.seal

SELECT owner_key, scope, organisation, repo, issue, run_id, set_at, changed_at, seal, position
FROM budgets
WHERE owner_key = $3 AND position < $1
ORDER BY position DESC
LIMIT $2

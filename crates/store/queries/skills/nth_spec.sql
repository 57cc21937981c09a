-- Whether an organisation has more than so many specifications of a kind; ends at that one.
SELECT version
FROM specs
WHERE org_id = $1 AND kind = $2
ORDER BY spec_key, version
LIMIT 1 OFFSET $3

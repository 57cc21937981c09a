-- Where the specifications of one organisation lie from a place on, and how large each is.
SELECT spec_key, version, spec_bytes
FROM specs
WHERE org_id = $1 AND kind = $2 AND (spec_key, version) >= ($3, $4)
ORDER BY spec_key, version
LIMIT $5

-- The newest public version that is not deprecated.
SELECT r.org_id, r.skill_key, r.version, r.bundle_hash, r.published_by, r.published_at, r.signature, r.public, r.spec, r.seal
FROM skill_releases r
JOIN specs s ON s.org_id = r.org_id AND s.kind = 'skill' AND s.spec_key = r.skill_key AND s.version = r.version
WHERE r.org_id = $1 AND r.skill_key = $2 AND r.public = 1 AND s.state = 'published'
ORDER BY r.version DESC
LIMIT 1

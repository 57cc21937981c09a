SELECT org_id, skill_key, version, bundle_hash, published_by, published_at, signature, public, spec, seal
FROM skill_releases
WHERE org_id = $1 AND skill_key = $2 AND version = $3

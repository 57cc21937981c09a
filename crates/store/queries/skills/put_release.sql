INSERT INTO skill_releases (
  org_id, skill_key, version, bundle_hash, published_by, published_at, signature, public, spec, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

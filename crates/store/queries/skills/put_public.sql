INSERT INTO public_skills (name, org_id, version, artifact, description, digest, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE SET
  org_id = excluded.org_id,
  version = excluded.version,
  artifact = excluded.artifact,
  description = excluded.description,
  digest = excluded.digest,
  seal = excluded.seal

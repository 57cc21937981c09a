SELECT name, org_id, version, artifact, description, digest, seal
FROM public_skills
WHERE name > $1
ORDER BY name
LIMIT $2

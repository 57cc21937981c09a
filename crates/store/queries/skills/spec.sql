SELECT
  org_id, kind, spec_key, version, spec_id, owner_id, tool_pack, state, frozen, created_at, updated_at, hash,
  spec_bytes, spec, seal
FROM specs
WHERE org_id = $1 AND kind = $2 AND spec_key = $3 AND version = $4

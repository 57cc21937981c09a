INSERT INTO specs (
  org_id, kind, spec_key, version, spec_id, owner_id, tool_pack, state, frozen, created_at, updated_at, hash,
  spec_bytes, spec, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (org_id, kind, spec_key, version) DO UPDATE SET
  spec_id = excluded.spec_id,
  owner_id = excluded.owner_id,
  tool_pack = excluded.tool_pack,
  state = excluded.state,
  frozen = excluded.frozen,
  created_at = excluded.created_at,
  updated_at = excluded.updated_at,
  hash = excluded.hash,
  spec_bytes = excluded.spec_bytes,
  spec = excluded.spec,
  seal = excluded.seal

INSERT INTO liquidity_pool_signer_sets (pool_id, threshold, signers_json, policy_json, canonical_json_sha256, created_at, updated_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (pool_id) DO UPDATE SET threshold = excluded.threshold, signers_json = excluded.signers_json, policy_json = excluded.policy_json,
  canonical_json_sha256 = excluded.canonical_json_sha256, created_at = excluded.created_at,
  updated_at = excluded.updated_at, seal = excluded.seal

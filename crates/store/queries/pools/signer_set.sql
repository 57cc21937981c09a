SELECT pool_id, threshold, signers_json, policy_json, canonical_json_sha256, created_at, updated_at, seal
FROM liquidity_pool_signer_sets
WHERE pool_id = $1

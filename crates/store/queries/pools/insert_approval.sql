INSERT INTO liquidity_pool_signing_approvals (request_id, signer_pubkey, approval_id, signature_json, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)

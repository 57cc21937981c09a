SELECT request_id, signer_pubkey, approval_id, signature_json, created_at, seal
FROM liquidity_pool_signing_approvals
WHERE request_id = $1
ORDER BY signer_pubkey

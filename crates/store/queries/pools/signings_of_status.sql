SELECT request_id, pool_id, action_class, idempotency_key, payload_json, payload_sha256, required_signatures,
  status, execution_result_json, executed_at, created_at, seal
FROM liquidity_pool_signing_requests
WHERE pool_id = $1 AND status = $2
ORDER BY created_at DESC, request_id DESC
LIMIT $3

INSERT INTO liquidity_pool_signing_requests (request_id, pool_id, action_class, idempotency_key, payload_json, payload_sha256, required_signatures,
  status, execution_result_json, executed_at, created_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (request_id) DO UPDATE SET pool_id = excluded.pool_id, action_class = excluded.action_class,
  idempotency_key = excluded.idempotency_key, payload_json = excluded.payload_json,
  payload_sha256 = excluded.payload_sha256, required_signatures = excluded.required_signatures,
  status = excluded.status, execution_result_json = excluded.execution_result_json,
  executed_at = excluded.executed_at, created_at = excluded.created_at, seal = excluded.seal

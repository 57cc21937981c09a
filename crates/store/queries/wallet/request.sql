SELECT kind, request_id, fingerprint, state, spend, asked, reply, error_code, error_message, begun_at, changed_at,
  lane, seal
FROM wallet_requests
WHERE kind = $1 AND request_id = $2

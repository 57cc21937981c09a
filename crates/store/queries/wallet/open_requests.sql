SELECT kind, request_id, fingerprint, state, spend, asked, reply, error_code, error_message, begun_at, changed_at,
  lane, seal
FROM wallet_requests
WHERE state = 'in_flight' AND begun_at <= $1
ORDER BY begun_at, kind, request_id
LIMIT $2

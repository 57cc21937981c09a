SELECT kind, request_id, fingerprint, state, spend, asked, reply, error_code, error_message, begun_at, changed_at,
  lane, seal
FROM wallet_requests
WHERE spend > 0 AND kind = 'pay' AND state = 'done'
ORDER BY begun_at DESC
LIMIT 1

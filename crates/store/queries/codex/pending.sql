SELECT worker_id, request_key, request_id, fingerprint, method, thread_id, source, request_version, session_id, state, answer,
  receipt, receipt_seq, created_at, deadline_at, seal
FROM codex_requests
WHERE worker_id = $1 AND deadline_at > 0
ORDER BY deadline_at
LIMIT $2

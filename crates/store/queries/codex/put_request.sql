INSERT INTO codex_requests (worker_id, request_key, request_id, fingerprint, method, thread_id, source, request_version, session_id, state, answer,
  receipt, receipt_seq, created_at, deadline_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (worker_id, request_key) DO UPDATE SET request_id = excluded.request_id,
  fingerprint = excluded.fingerprint, method = excluded.method, thread_id = excluded.thread_id,
  source = excluded.source, request_version = excluded.request_version, session_id = excluded.session_id,
  state = excluded.state, answer = excluded.answer, receipt = excluded.receipt, receipt_seq = excluded.receipt_seq,
  created_at = excluded.created_at, deadline_at = excluded.deadline_at, seal = excluded.seal

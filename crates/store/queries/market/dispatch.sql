SELECT dispatch_id, owner_key, run_id, job_hash, attempt, state, calls, worker_id, provider_id, quote_id, hold_id, request_sha256,
  response_sha256, signed_by, signature, reply, busy_until, opened_at, changed_at, answered_at, organisation, repo, issue, seal
FROM market_dispatches
WHERE dispatch_id = $1

INSERT INTO market_dispatches (dispatch_id, owner_key, run_id, job_hash, attempt, state, calls, worker_id, provider_id, quote_id, hold_id, request_sha256,
  response_sha256, signed_by, signature, reply, busy_until, opened_at, changed_at, answered_at, organisation, repo, issue, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
ON CONFLICT (dispatch_id) DO UPDATE SET state = excluded.state, calls = excluded.calls, worker_id = excluded.worker_id,
  provider_id = excluded.provider_id, quote_id = excluded.quote_id, hold_id = excluded.hold_id,
  response_sha256 = excluded.response_sha256, signed_by = excluded.signed_by, signature = excluded.signature,
  reply = excluded.reply, busy_until = excluded.busy_until, changed_at = excluded.changed_at,
  answered_at = excluded.answered_at, organisation = excluded.organisation, repo = excluded.repo, issue = excluded.issue, seal = excluded.seal

SELECT settlement_id, owner_key, run_id, job_hash, attempt, provider_id, worker_id, amount, operator_fee, policy_adder, status,
  verification_passed, exit_code, withheld_reason, dispatch_id, quote_sha256, hold_id, reservations, fingerprint, receipt_sha256, reply,
  reserved_at, settled_at, updated_at, seal
FROM compute_settlements
WHERE run_id = $1 AND job_hash = $2 AND attempt = $3
LIMIT $4

SELECT settlement_id, owner_key, run_id, job_hash, attempt, provider_id, worker_id, amount, operator_fee, policy_adder, status,
  verification_passed, exit_code, withheld_reason, dispatch_id, quote_sha256, hold_id, reservations, fingerprint, receipt_sha256, reply,
  reserved_at, settled_at, updated_at, seal
FROM compute_settlements
WHERE owner_key = $3 AND status = 'reserved' AND reserved_at <= $1
  AND NOT EXISTS (SELECT 1 FROM compute_paying WHERE compute_paying.settlement_id = compute_settlements.settlement_id)
ORDER BY job_hash, settlement_id
LIMIT $2

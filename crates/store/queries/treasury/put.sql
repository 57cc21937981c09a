INSERT INTO compute_settlements (settlement_id, owner_key, run_id, job_hash, attempt, provider_id, worker_id, amount, operator_fee, policy_adder, status,
  verification_passed, exit_code, withheld_reason, dispatch_id, quote_sha256, hold_id, reservations, fingerprint, receipt_sha256, reply,
  reserved_at, settled_at, updated_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)
ON CONFLICT (settlement_id) DO UPDATE SET owner_key = excluded.owner_key, run_id = excluded.run_id, job_hash = excluded.job_hash, attempt =
  excluded.attempt, provider_id = excluded.provider_id, worker_id = excluded.worker_id, amount =
  excluded.amount, operator_fee = excluded.operator_fee, policy_adder = excluded.policy_adder, status =
  excluded.status, verification_passed = excluded.verification_passed, exit_code = excluded.exit_code,
  withheld_reason = excluded.withheld_reason, dispatch_id = excluded.dispatch_id, quote_sha256 =
  excluded.quote_sha256, hold_id = excluded.hold_id, reservations = excluded.reservations, fingerprint =
  excluded.fingerprint, receipt_sha256 = excluded.receipt_sha256, reply = excluded.reply, reserved_at =
  excluded.reserved_at, settled_at = excluded.settled_at, updated_at = excluded.updated_at, seal = excluded.seal

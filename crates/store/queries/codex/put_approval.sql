INSERT INTO codex_approvals (worker_id, approval_key, approval_id, asked_seq, decision, decided_seq, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (worker_id, approval_key) DO UPDATE SET approval_id = excluded.approval_id,
  asked_seq = excluded.asked_seq, decision = excluded.decision, decided_seq = excluded.decided_seq,
  seal = excluded.seal

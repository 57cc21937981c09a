SELECT worker_id, approval_key, approval_id, asked_seq, decision, decided_seq, seal
FROM codex_approvals
WHERE worker_id = $1 AND approval_key = $2

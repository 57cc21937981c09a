INSERT INTO l402_receipts (
  receipt_id, principal, autopilot, thread_id, run_id, run_status, status, task_id, paid, payload,
  created_at, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING event_id

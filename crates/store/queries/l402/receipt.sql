SELECT
  receipt_id, principal, autopilot, thread_id, run_id, run_status, status, task_id, paid, payload,
  created_at, seal, event_id
FROM l402_receipts
WHERE event_id = $1 AND principal = $2

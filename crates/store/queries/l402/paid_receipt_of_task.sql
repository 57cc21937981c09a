SELECT
  receipt_id, principal, autopilot, thread_id, run_id, run_status, status, task_id, paid, payload,
  created_at, seal, event_id
FROM l402_receipts
WHERE principal = $1 AND task_id = $2 AND paid = 1
ORDER BY event_id DESC
LIMIT 1

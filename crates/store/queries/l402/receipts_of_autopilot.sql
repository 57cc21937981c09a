SELECT
  receipt_id, principal, autopilot, thread_id, run_id, run_status, status, task_id, paid, payload,
  created_at, seal, event_id
FROM l402_receipts
WHERE principal = $1 AND autopilot = $5 AND event_id < $2
ORDER BY event_id DESC
LIMIT $3 OFFSET $4

SELECT idempotency_key
FROM run_event_keys
WHERE run_id = $1 AND actor = $2 AND idempotency_key > $3
ORDER BY idempotency_key
LIMIT $4

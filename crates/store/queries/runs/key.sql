SELECT run_id, actor, idempotency_key, fingerprint, seq, position, seal
FROM run_event_keys
WHERE run_id = $1 AND actor = $2 AND idempotency_key = $3

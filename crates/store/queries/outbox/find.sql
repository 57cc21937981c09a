SELECT topic, payload, created_at, seal, id, attempts, last_error
FROM outbox
WHERE id = $1

SELECT topic, payload, created_at, id, attempts, died_at, last_error, seal
FROM outbox_dead
WHERE id > $1
ORDER BY id
LIMIT $2

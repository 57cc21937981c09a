SELECT topic, payload, created_at, seal, id, attempts, last_error
FROM outbox
WHERE topic = $1 AND next_attempt_at <= $2 AND leased_until <= $2
ORDER BY id
LIMIT $3

UPDATE outbox
SET leased_until = $3, attempts = attempts + 1
WHERE id = $1 AND leased_until <= $2

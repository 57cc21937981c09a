UPDATE outbox
SET next_attempt_at = $2, last_error = $3, leased_until = 0
WHERE id = $1

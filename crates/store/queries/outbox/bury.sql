INSERT INTO outbox_dead (topic, payload, created_at, id, attempts, died_at, last_error, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

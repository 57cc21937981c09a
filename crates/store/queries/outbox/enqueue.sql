INSERT INTO outbox (topic, payload, created_at, seal)
VALUES ($1, $2, $3, $4)
RETURNING id

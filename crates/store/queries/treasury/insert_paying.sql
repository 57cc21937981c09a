INSERT INTO compute_paying (settlement_id, envelope_id, over_at, begun_at, decided, seal)
VALUES ($1, $2, $3, $4, $5, $6)

INSERT INTO lease_terms (name, token, holder, taken_at, until, seal)
VALUES ($1, $2, $3, $4, $5, $6)

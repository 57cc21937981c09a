INSERT INTO leases (name, holder, token, taken_at, until, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token, taken_at = excluded.taken_at, until = excluded.until, seal = excluded.seal

INSERT INTO credit_lending (pool_id, lending, changed_at, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT (pool_id) DO UPDATE SET lending = excluded.lending, changed_at = excluded.changed_at, seal = excluded.seal

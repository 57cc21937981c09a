INSERT INTO compute_totals (owner_key, released, released_jobs, withheld_jobs, seal)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (owner_key) DO UPDATE SET released = excluded.released, released_jobs = excluded.released_jobs, withheld_jobs = excluded.withheld_jobs, seal = excluded.seal

INSERT INTO compute_earnings (owner_key, provider_id, earned, released_jobs, withheld_jobs, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (owner_key, provider_id) DO UPDATE SET earned = excluded.earned, released_jobs = excluded.released_jobs, withheld_jobs = excluded.withheld_jobs, seal = excluded.seal

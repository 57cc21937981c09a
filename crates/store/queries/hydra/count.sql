INSERT INTO hydra_counters (name, counted)
VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET counted = hydra_counters.counted + excluded.counted

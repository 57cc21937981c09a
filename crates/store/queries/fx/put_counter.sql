INSERT INTO fx_counters (stripe, rfqs, quotes, settlements, withheld, providers, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (stripe) DO UPDATE SET rfqs = excluded.rfqs, quotes = excluded.quotes, settlements = excluded.settlements, withheld = excluded.withheld, providers = excluded.providers, seal = excluded.seal

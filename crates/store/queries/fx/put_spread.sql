INSERT INTO fx_spreads (spread_bps, settlements, seal)
VALUES ($1, $2, $3)
ON CONFLICT (spread_bps) DO UPDATE SET settlements = excluded.settlements, seal = excluded.seal

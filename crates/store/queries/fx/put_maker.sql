INSERT INTO fx_makers (provider_id, released, late, refused, seal)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (provider_id) DO UPDATE SET released = excluded.released, late = excluded.late, refused = excluded.refused, seal = excluded.seal

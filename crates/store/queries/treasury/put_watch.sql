INSERT INTO treasury_watch (name, holder, until, cursor, rounds, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, cursor = excluded.cursor, rounds = excluded.rounds, seal = excluded.seal

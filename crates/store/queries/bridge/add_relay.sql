INSERT INTO bridge_relays (url, added_at, seal)
VALUES ($1, $2, $3)
ON CONFLICT (url) DO NOTHING

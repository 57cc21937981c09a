INSERT INTO sync_keys (kid, public_key, made_at, retired_at, served_until, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kid) DO UPDATE SET
  public_key = excluded.public_key,
  made_at = excluded.made_at,
  retired_at = excluded.retired_at,
  served_until = excluded.served_until,
  seal = excluded.seal

INSERT INTO bridge_ads (address, worker_id, digest, created_at_unix, event, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (address) DO UPDATE SET worker_id = excluded.worker_id, digest = excluded.digest,
  created_at_unix = excluded.created_at_unix, event = excluded.event, seal = excluded.seal

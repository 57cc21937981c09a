SELECT address, worker_id, digest, created_at_unix, event, seal
FROM bridge_ads
WHERE address = $1

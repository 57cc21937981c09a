SELECT address, worker_id, digest, created_at_unix, event, seal
FROM bridge_ads
WHERE worker_id = $1
ORDER BY address

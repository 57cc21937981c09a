SELECT address, worker_id, digest, created_at_unix, event, seal
FROM bridge_ads
WHERE address > $1
ORDER BY address
LIMIT $2

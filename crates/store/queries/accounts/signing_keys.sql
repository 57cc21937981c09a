SELECT kid, public_key, made_at, retired_at, served_until, seal
FROM sync_keys
WHERE retired_at IS NULL
ORDER BY made_at DESC, kid DESC
LIMIT 100

SELECT kid, public_key, made_at, retired_at, served_until, seal
FROM sync_keys
WHERE served_until IS NULL OR served_until > $1
ORDER BY made_at DESC, kid DESC
LIMIT 100

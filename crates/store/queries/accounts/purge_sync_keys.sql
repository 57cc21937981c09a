DELETE FROM sync_keys
WHERE served_until <= $1

SELECT expires_at FROM used_credentials WHERE expires_at < $1 LIMIT 1

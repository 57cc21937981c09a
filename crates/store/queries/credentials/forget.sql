DELETE FROM used_credentials
WHERE nonce IN (SELECT nonce FROM used_credentials WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)

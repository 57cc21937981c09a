INSERT INTO used_credentials (nonce, expires_at)
VALUES ($1, $2)
ON CONFLICT (nonce) DO NOTHING

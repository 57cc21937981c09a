INSERT INTO market_documents (sha256, document, created_at, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT (sha256) DO NOTHING

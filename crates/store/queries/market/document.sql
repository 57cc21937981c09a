SELECT sha256, document, created_at, seal
FROM market_documents
WHERE sha256 = $1

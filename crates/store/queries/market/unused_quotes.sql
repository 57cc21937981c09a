SELECT owner_key, quote_id
FROM market_quotes
WHERE dispatch_id IS NULL AND created_at < $1
ORDER BY created_at
LIMIT $2

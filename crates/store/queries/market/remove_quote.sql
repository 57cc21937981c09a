DELETE FROM market_quotes WHERE owner_key = $1 AND quote_id = $2 AND dispatch_id IS NULL

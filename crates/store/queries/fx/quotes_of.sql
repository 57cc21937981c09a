SELECT quote_id, rfq_id, provider_id, quote, status, seal
FROM fx_quotes
WHERE rfq_id = $1
ORDER BY quote_id
LIMIT $2

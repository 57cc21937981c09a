SELECT quote_id, rfq_id, provider_id, quote, status, seal
FROM fx_quotes
WHERE quote_id = $1

INSERT INTO fx_quotes (quote_id, rfq_id, provider_id, quote, status, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (quote_id) DO UPDATE SET status = excluded.status, seal = excluded.seal

SELECT COUNT(*), CAST(COALESCE(SUM(max_sats), 0) AS BIGINT)
FROM credit_envelopes
WHERE closed_at IS NULL AND expires_at > $1

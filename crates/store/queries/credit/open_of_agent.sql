-- Open at $2: issued by then, its time not over, and not closed by then.
SELECT COUNT(*), CAST(COALESCE(SUM(max_sats), 0) AS BIGINT)
FROM credit_envelopes
WHERE agent_id = $1 AND expires_at > $2 AND issued_at <= $2 AND (closed_at IS NULL OR closed_at > $2)

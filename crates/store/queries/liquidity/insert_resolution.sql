INSERT INTO liquidity_resolutions (subject, idempotency_key, fingerprint, outcome, evidence, actor, resolved_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

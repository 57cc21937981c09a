SELECT subject, idempotency_key, fingerprint, outcome, evidence, actor, resolved_at, seal
FROM liquidity_resolutions
WHERE subject = $1

INSERT INTO credit_offers (offer_id, agent_id, pool_id, fingerprint, offer, status, audit, audit_sha256, issued_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (offer_id) DO UPDATE SET status = excluded.status, seal = excluded.seal

SELECT offer_id, agent_id, pool_id, fingerprint, offer, status, audit, audit_sha256, issued_at, seal
FROM credit_offers
WHERE offer_id = $1

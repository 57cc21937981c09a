SELECT issued_at
FROM credit_offers
WHERE agent_id = $1
ORDER BY issued_at DESC
LIMIT 1

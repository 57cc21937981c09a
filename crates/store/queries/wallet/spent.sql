SELECT CAST(COALESCE(SUM(spend), 0) AS BIGINT), COUNT(*)
FROM wallet_requests
WHERE spend > 0 AND begun_at > $1 AND lane = $2

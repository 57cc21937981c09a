DELETE FROM wallet_requests
WHERE kind = $1 AND request_id = $2

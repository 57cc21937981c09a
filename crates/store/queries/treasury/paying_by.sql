SELECT 1
FROM compute_paying
WHERE envelope_id = $1

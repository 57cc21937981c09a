-- Whether an owner has more than so many workers; ends at that one.
SELECT worker_id
FROM workers
WHERE owner_key = $1
ORDER BY worker_id
LIMIT 1 OFFSET $2

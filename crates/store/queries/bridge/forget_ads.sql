-- Taken back, and nobody's.
DELETE FROM bridge_ads
WHERE worker_id = '' AND created_at_unix < $1

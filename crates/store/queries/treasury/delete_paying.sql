DELETE FROM compute_paying
WHERE settlement_id = $1

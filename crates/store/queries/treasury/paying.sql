SELECT settlement_id, envelope_id, over_at, begun_at, decided, seal
FROM compute_paying
WHERE settlement_id = $1

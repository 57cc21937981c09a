SELECT settlement_id, envelope_id, decided, over_at, begun_at, seal
FROM compute_paying
WHERE settlement_id = $1

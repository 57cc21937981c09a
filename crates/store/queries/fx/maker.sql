SELECT provider_id, released, late, refused, seal
FROM fx_makers
WHERE provider_id = $1

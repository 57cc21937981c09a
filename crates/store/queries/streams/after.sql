SELECT stream_id, seq, topic, kind, payload, published_at, outbox_id, seal
FROM stream_events
WHERE stream_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3

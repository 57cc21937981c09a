INSERT INTO stream_events (stream_id, seq, topic, kind, payload, published_at, outbox_id, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

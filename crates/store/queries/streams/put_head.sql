INSERT INTO stream_heads (stream_id, head_seq, oldest_seq, seal)
VALUES ($1, $2, $3, $4)
ON CONFLICT (stream_id) DO UPDATE SET head_seq = excluded.head_seq, oldest_seq = excluded.oldest_seq, seal = excluded.seal

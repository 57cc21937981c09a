SELECT stream_id, head_seq, oldest_seq, seal
FROM stream_heads
WHERE stream_id = $1

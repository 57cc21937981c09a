SELECT topic, expected_next_seq, last_seen_seq, incoming_seq, reason, detected_at, status, seal
FROM projection_drifts
WHERE topic = $1

INSERT INTO projection_drifts (topic, expected_next_seq, last_seen_seq, incoming_seq, reason, detected_at, status, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (topic) DO UPDATE SET expected_next_seq = excluded.expected_next_seq, last_seen_seq = excluded.last_seen_seq,
  incoming_seq = excluded.incoming_seq, reason = excluded.reason, detected_at = excluded.detected_at, status = excluded.status, seal = excluded.seal

SELECT run_id, latest_seq, chain
FROM run_heads
ORDER BY run_id

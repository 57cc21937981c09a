SELECT run_id, block, positions, seal
FROM run_blocks
WHERE run_id = $1 AND block = $2

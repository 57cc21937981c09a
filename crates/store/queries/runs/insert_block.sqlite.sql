INSERT INTO run_blocks (run_id, block, positions, seal)
VALUES ($1, $2, $3, $4)

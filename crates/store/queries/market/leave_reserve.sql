DELETE FROM reserve_pool WHERE worker_id = $1

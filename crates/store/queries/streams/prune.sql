DELETE FROM stream_events WHERE stream_id = $1 AND seq < $2

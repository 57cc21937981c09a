SELECT seq FROM stream_events WHERE stream_id = $1 AND outbox_id = $2

DELETE FROM bridge_outgoing WHERE relay = $1 AND address = $2 AND event_id = $3

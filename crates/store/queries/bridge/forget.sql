DELETE FROM bridge_outgoing WHERE relay = $1

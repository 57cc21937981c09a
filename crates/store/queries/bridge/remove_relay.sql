DELETE FROM bridge_relays WHERE url = $1

UPDATE bridge_relays SET primed = 1 WHERE url = $1

DELETE FROM route_split_overrides WHERE domain = $1 AND kind = $2

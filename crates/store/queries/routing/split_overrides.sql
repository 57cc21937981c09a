SELECT domain, kind, value, updated_at, seal
FROM route_split_overrides
ORDER BY domain, kind
LIMIT $1

SELECT url, added_at, seal, primed
FROM bridge_relays
ORDER BY url

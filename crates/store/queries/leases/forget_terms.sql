DELETE FROM lease_terms WHERE name = $1 AND token <= $2

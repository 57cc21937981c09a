SELECT settlement_id, kind, detail, first_seen_at, last_seen_at, seal
FROM treasury_findings
WHERE settlement_id = $1
ORDER BY kind

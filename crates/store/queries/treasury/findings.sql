SELECT settlement_id, kind, detail, first_seen_at, last_seen_at, seal
FROM treasury_findings
ORDER BY last_seen_at DESC, settlement_id, kind
LIMIT $1

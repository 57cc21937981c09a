INSERT INTO treasury_findings (settlement_id, kind, detail, first_seen_at, last_seen_at, seal)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (settlement_id, kind) DO UPDATE SET detail = excluded.detail, first_seen_at = excluded.first_seen_at, last_seen_at = excluded.last_seen_at, seal = excluded.seal

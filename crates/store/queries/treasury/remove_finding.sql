DELETE FROM treasury_findings
WHERE settlement_id = $1 AND kind = $2

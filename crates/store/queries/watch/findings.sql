SELECT COUNT(*) FROM (SELECT 1 FROM treasury_findings LIMIT 1000) AS found

INSERT INTO revocations (kind, subject, reason, revoked_at, seal)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, subject) DO NOTHING

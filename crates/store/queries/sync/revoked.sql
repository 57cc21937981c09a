SELECT kind, subject, reason, revoked_at, seal
FROM revocations
WHERE kind = $1 AND subject = $2

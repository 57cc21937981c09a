INSERT INTO auth_challenges (
  challenge_hash, email, provider_id, expires_at, seal
)
VALUES ($1, $2, $3, $4, $5)

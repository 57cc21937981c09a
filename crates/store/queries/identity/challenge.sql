SELECT
  challenge_hash, email, provider_id, expires_at, seal
FROM auth_challenges
WHERE challenge_hash = $1

DELETE FROM auth_challenges
WHERE challenge_hash IN (
  SELECT challenge_hash FROM auth_challenges WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
)

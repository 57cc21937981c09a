DELETE FROM auth_challenges WHERE challenge_hash = $1

-- Whether a user has more than so many autopilots; ends at that one.
SELECT autopilot_id
FROM autopilots
WHERE user_id = $1
ORDER BY updated_at, autopilot_id
LIMIT 1 OFFSET $2

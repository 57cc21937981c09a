SELECT thread_id, user_id, org_id, autopilot_id, title, created_at, updated_at, message_count, last_message_at, seal
FROM threads
WHERE user_id = $1 AND org_id = $2 AND (updated_at, thread_id) < ($3, $4)
ORDER BY updated_at DESC, thread_id DESC
LIMIT $5

SELECT thread_id, user_id, org_id, autopilot_id, title, created_at, updated_at, message_count, last_message_at, seal
FROM threads
WHERE thread_id = $1

SELECT thread_id, seq, message_id, user_id, role, text, created_at, turn_id, item_key, seal
FROM thread_messages
WHERE thread_id = $1 AND seq < $2
ORDER BY seq DESC
LIMIT $3

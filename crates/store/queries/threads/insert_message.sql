INSERT INTO thread_messages (thread_id, seq, message_id, user_id, role, text, created_at, turn_id, item_key, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

INSERT INTO wallet_requests (kind, request_id, fingerprint, state, spend, asked, reply, error_code, error_message,
  begun_at, changed_at, lane, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (kind, request_id)
DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state, spend = excluded.spend, asked =
  excluded.asked, reply = excluded.reply, error_code = excluded.error_code, error_message = excluded.error_message,
  begun_at = excluded.begun_at, changed_at = excluded.changed_at, lane = excluded.lane, seal = excluded.seal

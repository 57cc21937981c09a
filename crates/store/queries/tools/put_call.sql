INSERT INTO tool_calls (
  principal, receipt_hash, state, holder, attempt, lease_until, first_seen, begun_at, changed_at,
  expires_at, reply, seal
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (principal, receipt_hash) DO UPDATE SET
  state = excluded.state,
  holder = excluded.holder,
  attempt = excluded.attempt,
  lease_until = excluded.lease_until,
  first_seen = excluded.first_seen,
  begun_at = excluded.begun_at,
  changed_at = excluded.changed_at,
  expires_at = excluded.expires_at,
  reply = excluded.reply,
  seal = excluded.seal

SELECT
  principal, receipt_hash, state, holder, attempt, lease_until, first_seen, begun_at, changed_at,
  expires_at, reply, seal
FROM tool_calls
WHERE principal = $1 AND receipt_hash = $2

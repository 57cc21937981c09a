DELETE FROM tool_calls
WHERE (principal, receipt_hash) IN (
  SELECT principal, receipt_hash FROM tool_calls WHERE expires_at < $1 AND state <> 'running' ORDER BY expires_at LIMIT $2
)

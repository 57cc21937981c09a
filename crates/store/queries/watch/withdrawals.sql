SELECT COUNT(*), MIN(earliest_settlement_at)
FROM (
  SELECT earliest_settlement_at FROM liquidity_withdrawals
  WHERE due_at IS NOT NULL ORDER BY due_at, created_at, withdrawal_id LIMIT 1000
) AS found
WHERE earliest_settlement_at <= $1

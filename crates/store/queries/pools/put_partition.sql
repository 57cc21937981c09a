INSERT INTO liquidity_pool_partitions (pool_id, partition_kind, pending_sats, owed, paying, shares_version, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (pool_id, partition_kind) DO UPDATE SET pending_sats = excluded.pending_sats, owed = excluded.owed, paying = excluded.paying,
  shares_version = excluded.shares_version, seal = excluded.seal

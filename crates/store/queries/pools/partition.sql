SELECT pool_id, partition_kind, pending_sats, owed, paying, shares_version, seal
FROM liquidity_pool_partitions
WHERE pool_id = $1 AND partition_kind = $2

//! `GET /internal/v1/pools/:pool_id/status`: what a pool holds and owes, and who waits (§6.2).

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::PoolsStatus,
    wire::pools::{PartitionKind, PartitionStatus, PoolStatusReply},
};
use oa_store::{Tx, tables::pools as table};

use super::{no_pool, settings::PoolSettings, standing, throttle};
use crate::Runtime;

const SCHEMA: &str = "openagents.liquidity.pool.status.v1";

impl Handle<PoolsStatus> for Runtime {
    async fn handle(&self, ask: Ask<PoolsStatus>) -> Result<Answer<PoolStatusReply>, Stop> {
        let ask = (ask.path.pool_id, self.config.pools.clone(), self.now());
        Ok(self.store.read("pools.status", ask, status).await?.into())
    }
}

async fn status(
    tx: &mut Tx,
    (pool_id, settings, now): &(String, PoolSettings, Timestamp),
) -> Result<PoolStatusReply, Stop> {
    let pool = table::pool(tx, pool_id).await?.ok_or_else(no_pool)?;
    let mut partitions = Vec::with_capacity(PartitionKind::ALL.len());
    for kind in PartitionKind::ALL {
        partitions.push(partition(tx, pool_id, *kind).await?);
    }
    let withdraw_throttle = match settings.lp_mode_enabled {
        true => Some(throttle::of_pool(tx, pool_id, settings, *now).await?),
        false => None,
    };
    let first = partitions.first().cloned();
    let first = first.ok_or_else(|| oa_contract::Fault::msg("a pool has no partitions"))?;
    Ok(PoolStatusReply {
        schema: SCHEMA.into(),
        pool,
        share_price_sats: first.share_price_sats,
        total_shares: first.total_shares,
        pending_withdrawals_sats_estimate: first.pending_withdrawals_sats_estimate,
        partitions,
        withdraw_throttle,
        updated_at: *now,
    })
}

async fn partition(tx: &mut Tx, pool_id: &str, kind: PartitionKind) -> Result<PartitionStatus, Stop> {
    let books = standing::books(tx, pool_id, kind).await?;
    let share_price_sats = standing::shown_price(tx, pool_id, &books).await?;
    let pending = books.row.pending_sats;
    let committed = if kind == PartitionKind::Cep { books.committed_sats() } else { 0 };
    Ok(PartitionStatus {
        partition_kind: kind,
        assets_sats_estimate: books.standing.assets_sats(),
        liabilities_sats_estimate: pending.saturating_add(committed),
        share_price_sats,
        total_shares: books.standing.shares,
        pending_withdrawals_sats_estimate: pending,
        share_price_msats_e6: books.standing.price_msats_e6(),
    })
}

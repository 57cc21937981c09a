//! `GET /internal/v1/pools/:pool_id/snapshots/latest`: the newest signed snapshot, or one made now (§6.3).

use oa_contract::{
    Answer, Ask, Handle, Port as _, Refusal, Stop,
    matrix::PoolsLatestSnapshot,
    wire::pools::{PartitionKind, SnapshotReply},
};
use oa_store::{
    Tx,
    tables::pool_snapshots::{self as table, SnapshotRow},
};

use super::snapshot::{Need, told};
use crate::Runtime;

impl Handle<PoolsLatestSnapshot> for Runtime {
    async fn handle(&self, ask: Ask<PoolsLatestSnapshot>) -> Result<Answer<SnapshotReply>, Stop> {
        let (pool_id, kind) = (ask.path.pool_id, ask.query.partition_kind.unwrap_or_default());
        if ask.query.generate.unwrap_or(false) {
            self.admits_writes()?;
            let made = self.make_snapshot(&pool_id, kind, Need::Wallet).await?;
            // Whoever makes one forgets one: asking often fills no store.
            self.prune_snapshots(&pool_id, kind).await?;
            return Ok(made.into());
        }
        let row = self.store.read("pools.latest_snapshot", (pool_id, kind), latest).await?;
        Ok(told(row, self.signer.as_ref())?.into())
    }
}

async fn latest(tx: &mut Tx, (pool_id, kind): &(String, PartitionKind)) -> Result<SnapshotRow, Stop> {
    let row = table::latest(tx, pool_id, *kind).await?;
    Ok(row.ok_or_else(|| Refusal::not_found("there is no snapshot of this pool yet"))?)
}

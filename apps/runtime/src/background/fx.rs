//! Decides when a request for quotes is over: its time has come, and nothing was settled. What was held for it is
//! free again.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Stop, Timestamp, wire::fx::RfqStatus};
use oa_store::{Tx, tables::fx as table};

use super::lead::Leader;
use crate::{
    Runtime,
    hydra::fx::{key, legs, standing, unix},
};

const EVERY: Duration = Duration::from_secs(1);
/// Requests in one look.
const BATCH: u32 = 256;

/// Looks until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match leader.sweep(runtime, sweep_once(runtime)).await {
            Ok(None | Some(0)) => {}
            Ok(Some(expired)) => tracing::info!(expired, "requests for quotes were over"),
            Err(stop) => tracing::warn!(error = %stop, "requests for quotes could not be ended; tried again"),
        }
    }
}

/// Ends whatever is over, at most one batch, and says how many that were.
pub async fn sweep_once(runtime: &Runtime) -> Result<usize, Stop> {
    if runtime.admits_writes().is_err() {
        return Ok(0);
    }
    let now = runtime.now();
    let (mut ended, mut failed) = (0, Ok(()));
    let mut after = (0, String::new());
    loop {
        let found = runtime.store.read("fx.due", (after.clone(), now), due).await?;
        let whole = found.len() == BATCH as usize;
        for (expires_at, rfq_id) in found {
            after = (expires_at, rfq_id.clone());
            // One that cannot be read stops no other, and is told in the end.
            match runtime.store.write("fx.expire", key(&rfq_id), (rfq_id, now), expire).await {
                Ok(fresh) => ended += usize::from(fresh),
                Err(stop) => failed = failed.and(Err(stop)),
            }
        }
        if !whole || failed.is_ok() {
            break;
        }
    }
    failed.map(|()| ended)
}

async fn due(tx: &mut Tx, (after, now): &((u64, String), Timestamp)) -> Result<Vec<(u64, String)>, Stop> {
    table::due(tx, unix(*now), after, BATCH).await
}

async fn expire(tx: &mut Tx, (rfq_id, now): &(String, Timestamp)) -> Result<bool, Stop> {
    let Some(mut row) = table::rfq(tx, rfq_id).await? else { return Ok(false) };
    if row.status == RfqStatus::Expired || standing(&row, unix(*now)) != RfqStatus::Expired {
        return Ok(false);
    }
    row.status = RfqStatus::Expired;
    if let Some(hold_id) = row.hold_id.take() {
        legs::void(tx, &hold_id, *now).await?;
    }
    table::put_rfq(tx, &row).await?;
    Ok(true)
}

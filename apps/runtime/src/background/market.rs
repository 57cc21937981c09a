//! Follows what other processes change about workers, each replica for itself; and forgets, on one of them, prices
//! that nobody took and credentials that are good no longer.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Stop, Timestamp};
use oa_store::{
    EngineKind, Tx,
    tables::{market_quotes, used_credentials},
};

use super::lead::Leader;
use crate::Runtime;

const EVERY: Duration = Duration::from_secs(1);
/// Quotes are kept for a day after they were promised, if nobody took them.
const UNUSED_SECONDS: i64 = 24 * 60 * 60;
/// Quotes that are forgotten at one time.
const BATCH: u32 = 256;
/// Used credentials that are forgotten at one time: as many a second are the most that can go on being used.
const USED_BATCH: u32 = 20_000;

/// Looks until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(stop) = look_once(runtime).await {
            tracing::warn!(error = %stop, "the market could not look what has changed; it tries again");
        }
        if let Err(stop) = leader.sweep(runtime, forget_once(runtime)).await {
            tracing::warn!(error = %stop, "what is over could not be forgotten; tried again");
        }
    }
}

/// One look.
pub async fn look_once(runtime: &Runtime) -> Result<(), Stop> {
    match runtime.store.engine() {
        // Nobody else writes to the file.
        EngineKind::Sqlite => runtime.market.refresh(&runtime.store, &runtime.hub).await?,
        EngineKind::Postgres => {
            runtime.market.follow(&runtime.store, &runtime.hub, runtime.now()).await?;
        }
    }
    Ok(())
}

/// Forgets what is over, at most one batch of each.
pub async fn forget_once(runtime: &Runtime) -> Result<(), Stop> {
    if runtime.admits_writes().is_err() {
        return Ok(());
    }
    let now = runtime.now();
    if runtime.store.read("auth.any_over", now, used).await? {
        runtime.store.write("auth.forget", (), now, forget_used).await?;
    }
    let before = now.plus_seconds(-UNUSED_SECONDS);
    let unused = runtime.store.read("market.unused", before, unused).await?;
    if unused {
        runtime.store.write("market.prune", (), before, prune).await?;
    }
    Ok(())
}

async fn unused(tx: &mut Tx, before: &Timestamp) -> Result<bool, Stop> {
    market_quotes::any_unused(tx, *before).await
}

async fn used(tx: &mut Tx, now: &Timestamp) -> Result<bool, Stop> {
    used_credentials::any_over(tx, *now).await
}

async fn forget_used(tx: &mut Tx, now: &Timestamp) -> Result<u64, Stop> {
    used_credentials::forget(tx, *now, USED_BATCH).await
}

async fn prune(tx: &mut Tx, before: &Timestamp) -> Result<u64, Stop> {
    market_quotes::prune(tx, *before, BATCH).await
}

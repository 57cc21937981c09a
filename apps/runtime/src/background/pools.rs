//! Decides who looks after the pools, and when: one of all replicas, elected by a lease, takes snapshots at their
//! interval, pays what is due and asks after deposits. What it does is safe if two did it.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Refusal, Stop, Timestamp, wire::pools::PartitionKind};
use oa_store::{
    Key, Tx,
    tables::{pools as table, treasury_watch as watch},
};
use sha2::{Digest as _, Sha256};

use crate::{
    Runtime,
    pools::{WATCH, snapshot::Need},
};

/// A leader that was not heard of for so many intervals is one no more.
const PATIENCE: u32 = 3;
/// Withdrawals that one round looks at.
const MOST_DUE: u64 = 1_000;

/// Takes snapshots until it is cancelled, the first at once.
pub async fn snapshots(runtime: &Arc<Runtime>) {
    let settings = &runtime.config.pools;
    let every = Duration::from_secs(settings.snapshot_interval_seconds);
    let me = runtime.ids.uuid_v7(runtime.now()).to_string();
    for round in 0_u64.. {
        match lead(runtime, &me, "snapshots", every).await {
            Ok(true) => snapshot_all(runtime).await,
            Ok(false) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "who snapshots pools could not be settled; tried again")
            }
        }
        tokio::time::sleep(every + jitter(&me, round, settings.snapshot_jitter_seconds)).await;
    }
}

/// A part of the jitter that differs from round to round and from replica to replica.
fn jitter(me: &str, round: u64, most_seconds: u64) -> Duration {
    let digest = Sha256::digest(format!("{me}|{round}"));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    Duration::from_millis(u64::from_be_bytes(bytes) % (most_seconds * 1_000 + 1))
}

/// One snapshot of each pool that is listed. A pool that is opened later is found in the next round.
pub async fn snapshot_all(runtime: &Runtime) {
    for pool_id in &runtime.config.pools.snapshot_pools {
        for kind in PartitionKind::ALL {
            if let Err(stop) = snapshot(runtime, pool_id, *kind).await {
                tracing::warn!(pool_id, partition = kind.name(), error = %stop, "no snapshot was taken");
            }
        }
    }
}

/// The first partition always, the others once somebody has deposited there.
async fn snapshot(runtime: &Runtime, pool_id: &str, kind: PartitionKind) -> Result<(), Stop> {
    if kind != PartitionKind::Llp {
        let used = async |tx: &mut Tx, (pool_id, kind): &(String, PartitionKind)| {
            Ok(table::partition(tx, pool_id, *kind).await?.shares_version > 0)
        };
        if !runtime.store.read("pools.used", (pool_id.to_owned(), kind), used).await? {
            return Ok(());
        }
    }
    match runtime.make_snapshot(pool_id, kind, Need::Nothing).await {
        Ok(_) => runtime.prune_snapshots(pool_id, kind).await.map(drop),
        // Not opened yet, or closed: nobody is to be told every time.
        Err(Stop::Refusal(Refusal { .. })) => Ok(()),
        Err(stop) => Err(stop),
    }
}

/// Pays what is due and asks after deposits until it is cancelled.
pub async fn payouts(runtime: &Arc<Runtime>) {
    let every = Duration::from_secs(runtime.config.pools.executor_interval_seconds);
    let me = runtime.ids.uuid_v7(runtime.now()).to_string();
    let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match pay_round(runtime, &me, every).await {
            Ok(()) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "due withdrawals could not be looked through; tried again")
            }
        }
    }
}

async fn pay_round(runtime: &Runtime, me: &str, every: Duration) -> Result<(), Stop> {
    if !lead(runtime, me, "payouts", every).await? {
        return Ok(());
    }
    // Neither waits for the other: a wallet may be slow about deposits while it pays, and the other way round.
    let (minted, done) = tokio::join!(runtime.watch_deposits(), runtime.execute_due(MOST_DUE));
    let (minted, done) = (minted?, done?);
    if done.paid + done.signing_requests_created + minted as u64 > 0 {
        tracing::info!(
            minted,
            paid = done.paid,
            signing_requests = done.signing_requests_created,
            failed = done.failed,
            unknown = done.unknown,
            "pools were looked after"
        );
    }
    Ok(())
}

/// Whether this process does it, for this round. An instance that does not write does not.
async fn lead(runtime: &Runtime, me: &str, what: &str, every: Duration) -> Result<bool, Stop> {
    lead_as(runtime, me, format!("{WATCH}.{what}"), every).await
}

/// As [`lead`], under a name of any task.
pub(super) async fn lead_as(
    runtime: &Runtime,
    me: &str,
    name: String,
    every: Duration,
) -> Result<bool, Stop> {
    if runtime.admits_writes().is_err() {
        return Ok(false);
    }
    let now = runtime.now();
    let patience = i64::try_from((every * PATIENCE).as_secs()).unwrap_or(i64::MAX / 8).max(15);
    let ask = (name.clone(), me.to_owned(), now, now.plus_seconds(patience));
    runtime.store.write("pools.lead", Key::text("watch", name), ask, take).await
}

/// Whoever holds it goes on; anybody may take what is over.
async fn take(
    tx: &mut Tx,
    (name, me, now, until): &(String, String, Timestamp, Timestamp),
) -> Result<bool, Stop> {
    let standing = watch::get(tx, name).await?;
    if standing.holder != *me && standing.until > *now {
        return Ok(false);
    }
    watch::put(tx, name, &watch::Watch { holder: me.clone(), until: *until, ..standing }).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bound() {
        assert_eq!(jitter("a", 1, 0), Duration::ZERO);
        for round in 0..100 {
            assert!(jitter("a", round, 5) <= Duration::from_secs(5));
        }
    }
}

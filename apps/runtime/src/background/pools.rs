//! Decides who looks after the pools, and when: one of all replicas, elected by a lease, takes snapshots at their
//! interval, pays what is due and asks after deposits. What it does is safe if two did it.

use std::{sync::Arc, time::Duration};

use oa_contract::{Refusal, Stop, wire::pools::PartitionKind};
use oa_store::{Tx, tables::pools as table};
use sha2::{Digest as _, Sha256};

use super::lead::Leader;
use crate::{
    Runtime,
    pools::{WATCH, snapshot::Need},
};

/// A leader that was not heard of for so many intervals is one no more.
const PATIENCE: u32 = 3;
const LEAST_PATIENCE: Duration = Duration::from_secs(15);
/// Withdrawals that one round looks at.
const MOST_DUE: u64 = 1_000;

/// A replica's part in taking snapshots.
pub fn leader_of_snapshots(runtime: &Runtime, me: &str) -> Leader {
    leader(me, "snapshots", runtime.config.pools.snapshot_interval_seconds)
}

/// A replica's part in paying what is due.
pub fn leader_of_payouts(runtime: &Runtime, me: &str) -> Leader {
    leader(me, "payouts", runtime.config.pools.executor_interval_seconds)
}

fn leader(me: &str, what: &str, every_seconds: u64) -> Leader {
    let patience = Duration::from_secs(every_seconds).saturating_mul(PATIENCE).max(LEAST_PATIENCE);
    Leader::new(format!("{WATCH}.{what}"), me, patience)
}

/// Takes snapshots until it is cancelled, the first at once.
pub async fn snapshots(runtime: &Arc<Runtime>, leader: &Leader, me: &str) {
    let settings = &runtime.config.pools;
    let every = Duration::from_secs(settings.snapshot_interval_seconds);
    for round in 0_u64.. {
        let all = async {
            snapshot_all(runtime).await;
            Ok(())
        };
        match leader.lead(runtime, all).await {
            Ok(_) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "who snapshots pools could not be settled; tried again")
            }
        }
        tokio::time::sleep(every + jitter(me, round, settings.snapshot_jitter_seconds)).await;
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
pub async fn payouts(runtime: &Arc<Runtime>, leader: &Leader) {
    let every = Duration::from_secs(runtime.config.pools.executor_interval_seconds);
    let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match leader.lead(runtime, pay_round(runtime)).await {
            Ok(_) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "due withdrawals could not be looked through; tried again")
            }
        }
    }
}

async fn pay_round(runtime: &Runtime) -> Result<(), Stop> {
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

//! What runs by itself beside the requests: the publisher that numbers streams, the sweeper that fails silent
//! workers, whatever ends holds whose time is over, the auditor of the ledger, the reconciler of the treasury,
//! whoever asks wallets how payments ended, whoever looks after pools, and the bridge to Nostr relays.
//! All work on the store alone, so any number of replicas may run them; only one of them reconciles at a time.

pub mod auditor;
pub mod bridge;
pub mod credit;
pub mod fx;
pub mod holds;
pub mod market;
pub mod payments;
pub mod pools;
pub mod publisher;
pub mod reconciler;
pub mod sweeper;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use oa_contract::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Runtime;

/// When each background task last came round, for `/readyz`.
#[derive(Default)]
pub struct Heartbeats {
    publisher: AtomicI64,
    sweeper: AtomicI64,
}

impl Heartbeats {
    pub fn publisher_beats(&self, now: Timestamp) {
        self.publisher.store(now.micros(), Ordering::Relaxed);
    }

    pub fn sweeper_beats(&self, now: Timestamp) {
        self.sweeper.store(now.micros(), Ordering::Relaxed);
    }

    pub fn publisher_alive(&self, now: Timestamp, patience: Duration) -> bool {
        alive(&self.publisher, now, patience)
    }

    pub fn sweeper_alive(&self, now: Timestamp, patience: Duration) -> bool {
        alive(&self.sweeper, now, patience)
    }
}

fn alive(beat: &AtomicI64, now: Timestamp, patience: Duration) -> bool {
    let age = now.millis_since(Timestamp::from_micros(beat.load(Ordering::Relaxed)));
    u128::try_from(age.max(0)).unwrap_or(u128::MAX) <= patience.as_millis()
}

/// Starts the background tasks; they end when the token is cancelled.
pub fn start(runtime: &Arc<Runtime>, stop: &CancellationToken) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    runtime.heartbeats.publisher_beats(runtime.now());
    runtime.heartbeats.sweeper_beats(runtime.now());
    let (a, b, c, d) = (runtime.clone(), runtime.clone(), runtime.clone(), runtime.clone());
    let (stop_a, stop_b, stop_c, stop_d) = (stop.clone(), stop.clone(), stop.clone(), stop.clone());
    tasks.spawn(async move { stop_a.run_until_cancelled(publisher::run(&a)).await.unwrap_or_default() });
    tasks.spawn(async move { stop_b.run_until_cancelled(sweeper::run(&b)).await.unwrap_or_default() });
    tasks.spawn(async move { stop_c.run_until_cancelled(holds::run(&c)).await.unwrap_or_default() });
    tasks.spawn(async move { stop_d.run_until_cancelled(auditor::run(&d)).await.unwrap_or_default() });
    let (follower, stopped) = (runtime.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(market::run(&follower)).await.unwrap_or_default() });
    let (lender, stopped) = (runtime.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(credit::run(&lender)).await.unwrap_or_default() });
    let (exchange, stopped) = (runtime.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(fx::run(&exchange)).await.unwrap_or_default() });
    let (teller, stopped) = (runtime.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(bridge::run(&teller)).await.unwrap_or_default() });
    let (watcher, stopped) = (runtime.clone(), stop.clone());
    tasks.spawn(
        async move { stopped.run_until_cancelled(payments::watch(&watcher)).await.unwrap_or_default() },
    );
    if runtime.config.liquidity.recovery_enabled {
        let (runtime, stop) = (runtime.clone(), stop.clone());
        tasks.spawn(
            async move { stop.run_until_cancelled(payments::run(&runtime)).await.unwrap_or_default() },
        );
    }
    if runtime.config.pools.snapshots_enabled && !runtime.config.pools.snapshot_pools.is_empty() {
        let (runtime, stop) = (runtime.clone(), stop.clone());
        tasks.spawn(
            async move { stop.run_until_cancelled(pools::snapshots(&runtime)).await.unwrap_or_default() },
        );
    }
    if runtime.config.pools.executor_enabled {
        let (runtime, stop) = (runtime.clone(), stop.clone());
        tasks.spawn(
            async move { stop.run_until_cancelled(pools::payouts(&runtime)).await.unwrap_or_default() },
        );
    }
    if runtime.config.reconciliation_enabled {
        let (runtime, stop) = (runtime.clone(), stop.clone());
        tasks.spawn(
            async move { stop.run_until_cancelled(reconciler::run(&runtime)).await.unwrap_or_default() },
        );
    }
    tasks
}

//! What runs by itself beside the requests: the publisher that numbers streams, the sweeper that fails silent
//! workers, whatever ends holds whose time is over, the auditor of the ledger, the reconciler of the treasury,
//! whoever asks wallets how payments ended, whoever looks after pools, and the bridge to Nostr relays.
//! All work on the store alone, so any number of replicas may run them. What one replica at a time should do has a
//! lease (`lead`); the rest takes what it does row by row, inside the transaction that does it.

pub mod auditor;
pub mod bridge;
pub mod credit;
pub mod fx;
pub mod holds;
pub mod lead;
pub mod market;
pub mod payments;
pub mod pools;
pub mod publisher;
pub mod reconciler;
pub mod sweeper;
pub mod watch;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use oa_contract::Timestamp;
use tokio_util::sync::CancellationToken;

use self::lead::Leader;
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

    /// When the publisher and the sweeper last came round.
    pub fn last(&self) -> (Timestamp, Timestamp) {
        let at = |beat: &AtomicI64| Timestamp::from_micros(beat.load(Ordering::Relaxed));
        (at(&self.publisher), at(&self.sweeper))
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
    let me = runtime.ids.uuid_v7(runtime.now()).to_string();
    tracing::info!(replica = me, "what runs by itself has begun, under this name");
    let sweeps = Arc::new(Leader::of_sweeps(&me));
    let mut leaders = vec![sweeps.clone()];
    let mut spawn = |task: Task| {
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(task).await.unwrap_or_default() });
    };
    let of = || (runtime.clone(), sweeps.clone());
    let (here, _) = of();
    spawn(Box::pin(async move { publisher::run(&here).await }));
    let (here, leader) = of();
    spawn(Box::pin(async move { sweeper::run(&here, &leader).await }));
    let (here, leader) = of();
    spawn(Box::pin(async move { holds::run(&here, &leader).await }));
    let (here, _) = of();
    spawn(Box::pin(async move { auditor::run(&here).await }));
    let (here, leader) = of();
    spawn(Box::pin(async move { market::run(&here, &leader).await }));
    let (here, leader) = of();
    spawn(Box::pin(async move { credit::run(&here, &leader).await }));
    let (here, leader) = of();
    spawn(Box::pin(async move { fx::run(&here, &leader).await }));
    let (here, _) = of();
    spawn(Box::pin(async move { payments::watch(&here).await }));
    let (here, _) = of();
    spawn(Box::pin(async move { watch::run(&here).await }));
    let (here, leader) = (runtime.clone(), Arc::new(bridge::leader(&me)));
    leaders.push(leader.clone());
    spawn(Box::pin(async move { bridge::run(&here, &leader).await }));
    if runtime.config.liquidity.recovery_enabled {
        let (here, _) = of();
        spawn(Box::pin(async move { payments::run(&here).await }));
    }
    if runtime.config.pools.snapshots_enabled && !runtime.config.pools.snapshot_pools.is_empty() {
        let (here, leader) = (runtime.clone(), Arc::new(pools::leader_of_snapshots(runtime, &me)));
        leaders.push(leader.clone());
        let me = me.clone();
        spawn(Box::pin(async move { pools::snapshots(&here, &leader, &me).await }));
    }
    if runtime.config.pools.executor_enabled {
        let (here, leader) = (runtime.clone(), Arc::new(pools::leader_of_payouts(runtime, &me)));
        leaders.push(leader.clone());
        spawn(Box::pin(async move { pools::payouts(&here, &leader).await }));
    }
    if runtime.config.reconciliation_enabled {
        let (here, leader) = (runtime.clone(), Arc::new(reconciler::leader(runtime, &me)));
        leaders.push(leader.clone());
        spawn(Box::pin(async move { reconciler::run(&here, &leader).await }));
    }
    let (here, stop) = (runtime.clone(), stop.clone());
    tasks.spawn(async move {
        stop.cancelled().await;
        step_down(&here, &leaders).await;
    });
    tasks
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever stops in order leaves its jobs to the others at once.
async fn step_down(runtime: &Runtime, leaders: &[Arc<Leader>]) {
    for leader in leaders {
        if let Err(stop) = leader.step_down(runtime).await {
            tracing::warn!(error = %stop, "a lease could not be given back; it runs out by itself");
        }
    }
}

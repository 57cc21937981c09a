//! Decides who tells Nostr relays what: one task for each relay, and one of all replicas, elected by a lease, that
//! keeps the ads of providers true. A task that dies is begun again.

use std::{sync::Arc, time::Duration};

use oa_contract::{Stop, Timestamp};
use oa_store::{Tx, tables::bridge as table};
use tokio::task::JoinSet;

use super::lead::Leader;
use crate::{
    Runtime,
    bridge::{ads::Place, sender},
};

/// How often the ads are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Until a task that died, or a store that did not answer, is tried again.
const PAUSE: Duration = Duration::from_secs(5);
const LEASE: &str = "bridge.ads";
/// A leader that was not heard of for so long is one no more. One look at everybody has to fit into it: what is told
/// later is refused, and whoever takes over begins anew.
const LASTS: Duration = Duration::from_secs(120);

/// A replica's part in keeping the ads true.
pub fn leader(me: &str) -> Leader {
    Leader::new(LEASE, me, LASTS)
}

/// Makes the configured relays those that are told, then tells them until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Arc<Leader>) {
    let relays = match runtime.signer {
        Some(_) => runtime.config.bridge.relays.clone(),
        None => Vec::new(),
    };
    while let Err(stop) = configure(runtime, &relays).await {
        tracing::warn!(error = %stop, "which relays are told could not be settled; tried again");
        tokio::time::sleep(PAUSE).await;
    }
    if relays.is_empty() {
        return;
    }
    let names: Vec<_> = relays.iter().map(|url| sender::name_of(url)).collect();
    tracing::info!(relays = ?names, "what happens here is told to Nostr relays");
    let mut tasks: JoinSet<Task> = JoinSet::new();
    begin(&mut tasks, runtime, leader, Task::Ads, Duration::ZERO);
    for url in relays {
        begin(&mut tasks, runtime, leader, Task::Relay(url), Duration::ZERO);
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(task) => {
                tracing::error!(task = task.name(), "a task of the bridge died; it is begun again");
                metrics::counter!("oa_bridge_task_deaths_total").increment(1);
                begin(&mut tasks, runtime, leader, task, PAUSE);
            }
            Err(error) => tracing::error!(%error, "a task of the bridge was not watched over"),
        }
    }
}

#[derive(Clone)]
enum Task {
    Ads,
    Relay(String),
}

impl Task {
    fn name(&self) -> String {
        match self {
            Task::Ads => "ads".to_owned(),
            Task::Relay(url) => sender::name_of(url),
        }
    }
}

/// Runs a task in one of its own, so that it is known which one died.
fn begin(
    tasks: &mut JoinSet<Task>,
    runtime: &Arc<Runtime>,
    leader: &Arc<Leader>,
    task: Task,
    after: Duration,
) {
    let (runtime, leader) = (runtime.clone(), leader.clone());
    tasks.spawn(async move {
        tokio::time::sleep(after).await;
        let mut inner = JoinSet::new();
        match task.clone() {
            Task::Ads => inner.spawn(advertise(runtime, leader)),
            Task::Relay(url) => inner.spawn(sender::run(runtime, url)),
        };
        while inner.join_next().await.is_some() {}
        task
    });
}

/// An instance that does not write leaves it as it is.
async fn configure(runtime: &Runtime, relays: &[String]) -> Result<(), Stop> {
    if !runtime.config.write_mode.writes_enabled() {
        return Ok(());
    }
    let known = async |tx: &mut Tx, (): &()| table::relays(tx).await;
    let mut known: Vec<_> =
        runtime.store.read("bridge.relays", (), known).await?.into_iter().map(|one| one.url).collect();
    let mut wanted = relays.to_vec();
    known.sort();
    wanted.sort();
    if known == wanted {
        return Ok(());
    }
    // Replicas have one list: whoever is started with another changes it for all.
    for gone in known.iter().filter(|url| !wanted.contains(url)) {
        tracing::warn!(
            relay = sender::name_of(gone),
            "a relay is not named any more; what waited for it is forgotten"
        );
    }
    let write =
        async |tx: &mut Tx, (urls, now): &(Vec<String>, Timestamp)| table::configure(tx, urls, *now).await;
    runtime.store.write("bridge.configure", (), (relays.to_vec(), runtime.now()), write).await
}

async fn advertise(runtime: Arc<Runtime>, leader: Arc<Leader>) {
    let mut place = Place::default();
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match leader.lead(&runtime, runtime.advertise(&mut place)).await {
            Ok(Some(0)) => {}
            Ok(Some(told)) => tracing::debug!(told, "ads of providers were told anew"),
            // Whoever takes over begins with everybody.
            Ok(None) => place = Place::default(),
            Err(stop) => tracing::warn!(error = %stop, "ads could not be looked at; tried again"),
        }
    }
}

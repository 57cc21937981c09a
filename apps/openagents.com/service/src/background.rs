//! What runs by itself beside the requests of control. Each task works on the store alone and may run in every
//! process at once.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use crate::codex::sweeper::{Swept, sweep};
use crate::{Control, identity, status, tools::Tools};

/// How often codex workers are looked after.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is read how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often what has expired is forgotten.
const HOUR: Duration = Duration::from_secs(3_600);

/// Starts the background tasks; they end when the token is cancelled.
pub fn start(control: &Arc<Control>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (telling, stopped) = (identity::tell_of_revocations(control.clone()), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(telling).await.unwrap_or_default() });
    let (tools, stopped) = (control.tools().clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(keep_tools(&tools)).await.unwrap_or_default() });
    let (watched, stopped) = (control.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(watch(&watched)).await.unwrap_or_default() });
    let (control, stopped) = (control.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(sweep_codex(&control)).await.unwrap_or_default() });
    tasks
}

/// Asks about open payments every half minute or so, and forgets expired answers every hour.
async fn keep_tools(tools: &Tools) {
    let mut purged_at = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(tools.round()).await;
        if let Err(stop) = tools.settle_open_payments().await {
            tracing::warn!(error = %stop, "open payments could not be asked about; tried again soon");
        }
        if purged_at.elapsed() >= HOUR {
            purge_tools(tools).await;
            purged_at = tokio::time::Instant::now();
        }
    }
}

/// Forgets expired answers and credentials, in small steps.
async fn purge_tools(tools: &Tools) {
    loop {
        match tools.purge().await {
            Ok(purged) if purged.is_full() => {}
            Ok(_) => return,
            Err(stop) => {
                tracing::warn!(error = %stop, "expired answers of tools could not be forgotten; tried again in an hour");
                return;
            }
        }
    }
}

/// Reads how things stand, for `/metrics`.
async fn watch(control: &Control) {
    let mut rounds = tokio::time::interval(LOOK_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        status::metrics::look_at_the_store(control).await;
    }
}

async fn sweep_codex(control: &Control) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match sweep(control).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => tracing::info!(?swept, "codex workers were looked after"),
            Err(stop) => {
                tracing::warn!(error = %stop, "codex workers could not be looked after; tried again")
            }
        }
    }
}

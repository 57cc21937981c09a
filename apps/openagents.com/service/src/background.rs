//! What runs by itself beside the requests of control. Each task works on the store alone and may run in every
//! process at once.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use crate::codex::sweeper::{Swept, sweep};
use crate::{Control, identity};

/// How often codex workers are looked after.
const EVERY: Duration = Duration::from_secs(5);

/// Starts the background tasks; they end when the token is cancelled.
pub fn start(control: &Arc<Control>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (telling, stopped) = (identity::tell_of_revocations(control.clone()), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(telling).await.unwrap_or_default() });
    let (control, stopped) = (control.clone(), stop.clone());
    tasks.spawn(async move { stopped.run_until_cancelled(sweep_codex(&control)).await.unwrap_or_default() });
    tasks
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

//! What control does by itself beside the requests. It works on the store alone, so any number of replicas may do it.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::Control;
pub use crate::codex::sweeper::{Swept, sweep};

/// How often codex workers are looked after.
const EVERY: Duration = Duration::from_secs(5);

/// Starts the background tasks; they end when the token is cancelled.
pub fn start(control: &Arc<Control>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (control, stop) = (control.clone(), stop.clone());
    tasks.spawn(async move { stop.run_until_cancelled(sweep_codex(&control)).await.unwrap_or_default() });
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

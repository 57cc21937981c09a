//! Decides when it is read how things stand, for `/metrics`: every few seconds, in every replica.

use std::{sync::Arc, time::Duration};

use crate::Runtime;

const EVERY: Duration = Duration::from_secs(15);

/// Looks until it is cancelled, the first time at once.
pub async fn run(runtime: &Arc<Runtime>) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        runtime.look_at_the_store().await;
    }
}

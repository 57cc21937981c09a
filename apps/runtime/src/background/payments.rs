//! Decides when wallets are asked about payments whose end nobody knows, and how the wallet is: every few seconds, and
//! at once when we start. Any number of replicas may do it: each payment is taken by one of them.

use std::{sync::Arc, time::Duration};

use oa_contract::Port as _;

use crate::{Runtime, liquidity::watch::EVERY_MS};

const EVERY: Duration = Duration::from_secs(2);

/// Asks about open payments until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if runtime.admits_writes().is_err() {
            continue;
        }
        match runtime.payments.resolve_due().await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "payments of unknown outcome have ended"),
            Err(stop) => tracing::warn!(error = %stop, "open payments could not be read; tried again"),
        }
    }
}

/// Watches the wallet, and writes what Hydra has counted, until it is cancelled.
pub async fn watch(runtime: &Arc<Runtime>) {
    let every = Duration::from_millis(EVERY_MS.unsigned_abs());
    let mut rounds = tokio::time::interval(every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        runtime.wallet_watch.look(runtime).await;
        // Breakers are noticed by the clock, not only when somebody asks.
        if let Err(stop) = runtime.risks().await {
            tracing::warn!(error = %stop, "the risks could not be read; tried again");
        }
        if runtime.admits_writes().is_ok()
            && let Err(stop) = runtime.hydra.flush(&runtime.store).await
        {
            tracing::warn!(error = %stop, "counters could not be written; tried again");
        }
    }
}

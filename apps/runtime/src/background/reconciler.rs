//! Decides who reconciles the treasury, and when: one of all replicas, the one with the lease, as long as it comes
//! back in time. What it does is safe if two did it: each reservation is given back in a transaction that looks again.

use std::{sync::Arc, time::Duration};

use oa_contract::Stop;

use super::lead::Leader;
use crate::Runtime;

/// Settlements, transfers and payments that are compared before what was found is written.
const PORTION: u32 = 200;
/// Portions of one round: a large history is compared over several rounds.
const PORTIONS: usize = 25;
/// A leader that was not heard of for so many intervals is one no more.
const PATIENCE: u32 = 3;

const LEASE: &str = "treasury";

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub expired: usize,
    pub compared: u64,
    pub findings: u64,
}

/// Reconciles until it is cancelled; the first time after one interval.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let every = Duration::from_secs(runtime.config.reconciliation_interval_seconds);
    let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match round(runtime, leader).await {
            Ok(Some(Round { expired: 0, findings: 0, .. })) | Ok(None) => {}
            Ok(Some(round)) => tracing::info!(
                expired = round.expired,
                compared = round.compared,
                findings = round.findings,
                "the treasury was reconciled"
            ),
            Err(stop) => tracing::warn!(error = %stop, "the treasury could not be reconciled; tried again"),
        }
    }
}

/// A replica's part in reconciling.
pub fn leader(runtime: &Runtime, me: &str) -> Leader {
    let every = Duration::from_secs(runtime.config.reconciliation_interval_seconds);
    Leader::new(LEASE, me, every.saturating_mul(PATIENCE))
}

/// One round, if this process leads; none if another does, or if this instance does not write.
pub async fn round(runtime: &Runtime, leader: &Leader) -> Result<Option<Round>, Stop> {
    leader.lead(runtime, reconcile(runtime)).await
}

async fn reconcile(runtime: &Runtime) -> Result<Round, Stop> {
    let config = &runtime.config;
    let expired = runtime
        .expire_reservations(None, config.reservation_ttl_seconds, config.reconciliation_max_jobs)
        .await?;
    let mut round = Round { expired: expired.len(), ..Round::default() };
    for _ in 0..PORTIONS {
        let compared = runtime.compare_portion(PORTION).await?;
        round.compared += compared.jobs;
        round.findings += compared.findings;
        if compared.next.is_empty() {
            break;
        }
    }
    Ok(round)
}

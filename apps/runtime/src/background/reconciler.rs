//! Decides who reconciles the treasury, and when: one of all replicas, elected by a lease that is taken under the
//! watch's own lock, as long as it comes back in time. What it does is safe if two did it: each reservation is
//! given back in a transaction that looks again.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Stop, Timestamp};
use oa_store::{Tx, tables::treasury_watch as watch};

use crate::{
    Runtime,
    treasury::compare::{WATCH, watch_key},
};

/// Settlements, transfers and payments that are compared before what was found is written.
const PORTION: u32 = 200;
/// Portions of one round: a large history is compared over several rounds.
const PORTIONS: usize = 25;
/// A leader that was not heard of for so many intervals is one no more.
const PATIENCE: i64 = 3;

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub expired: usize,
    pub compared: u64,
    pub findings: u64,
}

/// Reconciles until it is cancelled; the first time after one interval.
pub async fn run(runtime: &Arc<Runtime>) {
    let every = Duration::from_secs(runtime.config.reconciliation_interval_seconds);
    let me = format!("{}", runtime.ids.uuid_v7(runtime.now()));
    let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match round(runtime, &me).await {
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

/// One round, if this process leads; none if another does, or if this instance does not write.
pub async fn round(runtime: &Runtime, me: &str) -> Result<Option<Round>, Stop> {
    if runtime.admits_writes().is_err() || !lead(runtime, me).await? {
        return Ok(None);
    }
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
    Ok(Some(round))
}

async fn lead(runtime: &Runtime, me: &str) -> Result<bool, Stop> {
    let now = runtime.now();
    let interval = i64::try_from(runtime.config.reconciliation_interval_seconds).unwrap_or(i64::MAX / 8);
    let until = now.plus_seconds(interval.saturating_mul(PATIENCE));
    runtime.store.write("treasury.lead", watch_key(), (me.to_owned(), now, until), take).await
}

/// Whoever holds it goes on; anybody may take what is over.
async fn take(tx: &mut Tx, (me, now, until): &(String, Timestamp, Timestamp)) -> Result<bool, Stop> {
    let standing = watch::get(tx, WATCH).await?;
    if standing.holder != *me && standing.until > *now {
        return Ok(false);
    }
    let watch = watch::Watch { holder: me.clone(), until: *until, ..standing };
    watch::put(tx, WATCH, &watch).await?;
    Ok(true)
}

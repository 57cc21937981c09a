//! Decides when credit is over: what is held for an envelope whose time is over is free again, and what was drawn and is
//! due is collected, or told as a default.

use std::{sync::Arc, time::Duration};

use oa_contract::{Port as _, Stop, Timestamp};
use oa_store::{
    Tx,
    tables::{credit as table, credit_sums},
};

use super::lead::Leader;
use crate::{
    Runtime,
    credit::{
        envelope_key, legs,
        loans::{self, Due},
    },
};

const EVERY: Duration = Duration::from_secs(1);
/// Envelopes, and debts, in one look.
const BATCH: u32 = 128;

/// Looks until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match leader.sweep(runtime, sweep_once(runtime)).await {
            Ok(None | Some((0, 0))) => {}
            Ok(Some((freed, due))) => tracing::info!(freed, due, "envelopes were over, and debts were due"),
            Err(stop) => tracing::warn!(error = %stop, "credit could not be swept; tried again"),
        }
    }
}

/// Frees what is over and deals with what is due, at most one batch of each; says how many that were.
pub async fn sweep_once(runtime: &Runtime) -> Result<(usize, usize), Stop> {
    if runtime.admits_writes().is_err() {
        return Ok((0, 0));
    }
    let now = runtime.now();
    let (mut freed, mut due) = (0, 0);
    for envelope_id in runtime.store.read("credit.unfreed", now, unfreed).await? {
        let key = envelope_key(&envelope_id);
        freed += usize::from(runtime.store.write("credit.free", key, (envelope_id, now), free).await?);
    }
    for settlement_id in runtime.store.read("credit.due", now, due_loans).await? {
        let key = loans::key(&settlement_id);
        let one = Due { settlement_id, signer: runtime.signer.clone(), now };
        due += usize::from(runtime.store.write("credit.fall_due", key, one, loans::fall_due).await?);
    }
    Ok((freed, due))
}

async fn unfreed(tx: &mut Tx, now: &Timestamp) -> Result<Vec<String>, Stop> {
    table::unfreed(tx, *now, BATCH).await
}

async fn due_loans(tx: &mut Tx, now: &Timestamp) -> Result<Vec<String>, Stop> {
    let loans = credit_sums::due_loans(tx, *now, BATCH).await?;
    Ok(loans.into_iter().map(|loan| loan.settlement_id).collect())
}

/// Never while a payment is under way. Whether the envelope is settled as expired is said when somebody asks.
async fn free(tx: &mut Tx, (envelope_id, now): &(String, Timestamp)) -> Result<bool, Stop> {
    let Some(mut row) = table::envelope(tx, envelope_id).await? else { return Ok(false) };
    if row.freed || row.payment_id.is_some() || row.envelope.exp >= *now {
        return Ok(false);
    }
    if let Some(hold_id) = &row.hold_id {
        legs::void(tx, hold_id, *now).await?;
    }
    row.freed = true;
    table::put_envelope(tx, &row).await?;
    Ok(true)
}

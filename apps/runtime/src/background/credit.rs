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
    Runtime, TrustMode,
    credit::{
        agent_key, envelope_key, legs,
        loans::{self, Due},
    },
};

const EVERY: Duration = Duration::from_secs(1);
/// Envelopes, and debts, in one look.
const BATCH: u32 = 128;
const AGAIN_SECONDS: i64 = 86_400;

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
    let (freed, due) = (free_some(runtime).await, collect_some(runtime).await);
    let finished = runtime.finish_paying().await;
    Ok((freed?, (due?, finished?).0))
}

/// One that cannot be read or freed stops no other, and is told in the end.
async fn free_some(runtime: &Runtime) -> Result<usize, Stop> {
    let now = runtime.now();
    let (mut freed, mut failed) = (0, Ok(()));
    let mut after = (Timestamp::EPOCH, String::new());
    loop {
        let look = (after.clone(), now);
        let found = runtime.store.read("credit.unfreed", look, unfreed).await?;
        let whole = found.len() == BATCH as usize;
        for (expires_at, envelope_id) in found {
            let key = envelope_key(&envelope_id);
            after = (expires_at, envelope_id.clone());
            match runtime.store.write("credit.free", key, (envelope_id, now), free).await {
                Ok(fresh) => freed += usize::from(fresh),
                Err(stop) => failed = failed.and(Err(stop)),
            }
        }
        // A batch that was all freed is followed by the next one soon enough.
        if !whole || failed.is_ok() {
            break;
        }
    }
    failed.map(|()| freed)
}

/// Where callers are believed nothing is due: what a success has drawn improves an agent's name, and no more.
async fn collect_some(runtime: &Runtime) -> Result<usize, Stop> {
    if runtime.config.trust_mode == TrustMode::Lenient {
        return Ok(0);
    }
    let now = runtime.now();
    let due = collect_these(runtime, now, Look::Due).await;
    collect_these(runtime, now, Look::Overdue).await.and(due)
}

/// Which debts are asked for.
#[derive(Clone, Copy)]
enum Look {
    Due,
    /// What was not repaid in time is asked for again once a day.
    Overdue,
}

/// Deals with the loans of one look, and of the next ones where some could not be dealt with: they stop no other.
async fn collect_these(runtime: &Runtime, now: Timestamp, look: Look) -> Result<usize, Stop> {
    let (mut due, mut failed) = (0, Ok(()));
    let mut after = (Timestamp::EPOCH, String::new());
    loop {
        let found = match look {
            Look::Due => runtime.store.read("credit.due", (after.clone(), now), due_loans).await?,
            Look::Overdue => {
                let until = now.plus_seconds(-AGAIN_SECONDS);
                runtime.store.read("credit.overdue", (after.clone(), until), overdue).await?
            }
        };
        let whole = found.len() == BATCH as usize;
        for (at, settlement_id) in found {
            after = (at, settlement_id.clone());
            match collect(runtime, settlement_id, now).await {
                Ok(done) => due += usize::from(done),
                Err(stop) => failed = failed.and(Err(stop)),
            }
        }
        if !whole || failed.is_ok() {
            break;
        }
    }
    failed.map(|()| due)
}

async fn collect(runtime: &Runtime, settlement_id: String, now: Timestamp) -> Result<bool, Stop> {
    let look = async |tx: &mut Tx, id: &String| credit_sums::loan(tx, id).await;
    let loan = runtime.store.read("credit.loan_look", settlement_id.clone(), look).await?;
    let mut keys = vec![loans::key(&settlement_id)];
    keys.extend(loan.iter().map(|loan| agent_key(&loan.agent_id)));
    let one = Due { settlement_id, signer: runtime.signer.clone(), now };
    runtime.store.write("credit.fall_due", keys, one, loans::fall_due).await
}

/// What was looked at last, and the moment.
type Behind = ((Timestamp, String), Timestamp);

async fn unfreed(tx: &mut Tx, (after, now): &Behind) -> Result<Vec<(Timestamp, String)>, Stop> {
    table::unfreed(tx, *now, after, BATCH).await
}

async fn due_loans(tx: &mut Tx, (after, now): &Behind) -> Result<Vec<(Timestamp, String)>, Stop> {
    credit_sums::due_loans(tx, *now, after, BATCH).await
}

async fn overdue(tx: &mut Tx, (after, until): &Behind) -> Result<Vec<(Timestamp, String)>, Stop> {
    credit_sums::overdue(tx, *until, after, BATCH).await
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

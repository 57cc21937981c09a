//! Decides what happens to codex workers when nobody does anything: a request ends at its deadline, a worker that fell
//! silent fails, and events that are too old are forgotten. Safe in every replica at once: each step looks again under
//! the worker's key.
//!
//! A worker counts as silent when neither a heartbeat nor a look at its feed was seen for three times the time after
//! which a heartbeat is stale. `in_memory` workers are never silent: they are answered for in process and nobody beats
//! for them. A process that has just started blames nobody.

use oa_contract::{Stop, Timestamp, wire::workers::WorkerStatus};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Worker},
};
use serde_json::json;

use super::{STALE_AFTER_MS, log, receipt, save, state};
use crate::Control;

/// What is looked at in one look.
const BATCH: u32 = 64;
/// Events that are forgotten at one time.
const EVENTS: u32 = 500;
const LOST_AFTER_MS: i64 = 3 * STALE_AFTER_MS;

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub timed_out: usize,
    pub failed: usize,
    /// Workers whose feed was shortened.
    pub shortened: usize,
}

/// Sweeps once, batch by batch, until nothing is left to do.
pub async fn sweep(control: &Control) -> Result<Swept, Stop> {
    let mut swept = Swept::default();
    while let done @ 1.. = time_out(control).await? {
        swept.timed_out += done;
    }
    if control.started_at.plus_millis(LOST_AFTER_MS) <= control.clock.now() {
        while let done @ 1.. = fail_silent(control).await? {
            swept.failed += done;
        }
    }
    while let done @ 1.. = shorten(control).await? {
        swept.shortened += done;
    }
    Ok(swept)
}

struct Task {
    worker_id: String,
    request_key: [u8; 32],
    now: Timestamp,
    before: Timestamp,
    keep: u64,
}

impl Task {
    fn new(control: &Control, worker_id: String, now: Timestamp, before: Timestamp) -> Self {
        Task { worker_id, request_key: [0; 32], now, before, keep: control.config.codex.event_retention }
    }
}

async fn time_out(control: &Control) -> Result<usize, Stop> {
    let now = control.clock.now();
    let overdue = control.store.read("codex.sweep_overdue", now, overdue).await?;
    let mut done = 0;
    for (worker_id, request_key) in overdue {
        let key = rows::key(&worker_id);
        let task = Task { request_key, ..Task::new(control, worker_id, now, now) };
        done += usize::from(control.store.write("codex.time_out", key, task, end_overdue).await?);
    }
    Ok(done)
}

async fn overdue(tx: &mut Tx, now: &Timestamp) -> Result<Vec<(String, [u8; 32])>, Stop> {
    rows::overdue(tx, *now, BATCH).await
}

async fn end_overdue(tx: &mut Tx, task: &Task) -> Result<bool, Stop> {
    let request = rows::request(tx, &task.worker_id, &task.request_key).await?;
    let request = request.filter(|request| request.deadline_at.is_some_and(|at| at <= task.now));
    let Some((request, mut worker)) = request.zip(rows::worker(tx, &task.worker_id).await?) else {
        return Ok(false);
    };
    receipt::time_out(tx, &mut worker, request, task.now, task.keep).await?;
    save(tx, &mut worker).await?;
    Ok(true)
}

async fn fail_silent(control: &Control) -> Result<usize, Stop> {
    let now = control.clock.now();
    let before = now.plus_millis(-LOST_AFTER_MS);
    let silent = control.store.read("codex.sweep_silent", before, silent).await?;
    let mut done = 0;
    for worker_id in silent {
        let key = rows::key(&worker_id);
        let task = Task::new(control, worker_id, now, before);
        done += usize::from(control.store.write("codex.fail_silent", key, task, fail).await?);
    }
    Ok(done)
}

async fn silent(tx: &mut Tx, before: &Timestamp) -> Result<Vec<String>, Stop> {
    rows::silent(tx, *before, BATCH).await
}

/// Looks again under the worker's key: a heartbeat or a look at the feed that came in between wins.
async fn fail(tx: &mut Tx, task: &Task) -> Result<bool, Stop> {
    let worker = rows::worker(tx, &task.worker_id).await?;
    let Some(mut worker) = worker.filter(|worker| is_silent(worker, task.before)) else { return Ok(false) };
    if let Some(seen) = worker.feed_seen_at.filter(|seen| *seen >= task.before) {
        worker.silent_since = Some(seen);
        save(tx, &mut worker).await?;
        return Ok(false);
    }
    receipt::end_all(tx, &mut worker, "the worker fell silent before it answered", task.now, task.keep)
        .await?;
    let payload = json!({"reason": "heartbeat_timeout"});
    log::append_own(tx, &mut worker, state::FAILED, &payload, task.now, task.keep).await?;
    state::enter(&mut worker, WorkerStatus::Failed, task.now);
    save(tx, &mut worker).await?;
    Ok(true)
}

fn is_silent(worker: &Worker, before: Timestamp) -> bool {
    worker.silent_since.is_some_and(|since| since < before)
}

async fn shorten(control: &Control) -> Result<usize, Stop> {
    let now = control.clock.now();
    let before = now.plus_seconds(-control.config.codex.event_retention_seconds);
    let aged = control.store.read("codex.sweep_aged", before, aged).await?;
    let mut done = 0;
    for worker_id in aged {
        let key = rows::key(&worker_id);
        let task = Task::new(control, worker_id, now, before);
        done += usize::from(control.store.write("codex.shorten", key, task, forget).await?);
    }
    Ok(done)
}

async fn aged(tx: &mut Tx, before: &Timestamp) -> Result<Vec<String>, Stop> {
    rows::aged(tx, *before, BATCH).await
}

/// Forgets a bounded number of events that are too old; the rest is found again.
async fn forget(tx: &mut Tx, task: &Task) -> Result<bool, Stop> {
    let Some(mut worker) = rows::worker(tx, &task.worker_id).await? else { return Ok(false) };
    let ages = rows::ages(tx, &task.worker_id, worker.oldest_seq, EVENTS).await?;
    let old = ages.iter().take_while(|(_, received_at)| *received_at < task.before).last();
    let Some((last, _)) = old else { return Ok(false) };
    log::forget_below(tx, &mut worker, last + 1).await?;
    save(tx, &mut worker).await?;
    Ok(true)
}

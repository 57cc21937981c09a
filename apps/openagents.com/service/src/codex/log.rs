//! Decides how an event enters a worker's feed: it gets the next number, old events make room, and followers are woken
//! once it is durable. A constant number of statements, however long the feed is.

use oa_contract::{Fault, Stop, Timestamp, wire::codex::CodexEvent};
use oa_store::{
    Tx, Wake,
    tables::codex::{self as rows, Worker},
};
use serde_json::{Value, value::RawValue};

use super::stream_of;

/// What is about to be appended.
pub struct New<'a> {
    pub event_type: &'a str,
    pub payload: Box<RawValue>,
    pub occurred_at: Timestamp,
    pub event_id: Option<&'a str>,
}

/// Appends to the feed of a worker that was read under its key. The caller saves the worker.
pub async fn append(
    tx: &mut Tx,
    worker: &mut Worker,
    new: New<'_>,
    now: Timestamp,
    keep: u64,
) -> Result<CodexEvent, Stop> {
    let event = CodexEvent {
        seq: worker.latest_seq + 1,
        event_type: new.event_type.to_owned(),
        payload: new.payload,
        occurred_at: new.occurred_at,
        received_at: now,
        event_id: new.event_id.map(str::to_owned),
    };
    rows::insert_event(tx, &worker.worker_id, &event).await?;
    worker.latest_seq = event.seq;
    worker.updated_at = now;
    worker.oldest_at = worker.oldest_at.or(Some(now));
    make_room(tx, worker, keep).await?;
    tx.wake(Wake::Stream { stream_id: stream_of(&worker.worker_id), seq: event.seq });
    Ok(event)
}

/// Appends an event of the service itself.
pub async fn append_own(
    tx: &mut Tx,
    worker: &mut Worker,
    event_type: &str,
    payload: &Value,
    now: Timestamp,
    keep: u64,
) -> Result<CodexEvent, Stop> {
    let payload = raw(payload)?;
    append(tx, worker, New { event_type, payload, occurred_at: now, event_id: None }, now, keep).await
}

/// A document as its text.
pub fn raw(document: &Value) -> Result<Box<RawValue>, Fault> {
    serde_json::value::to_raw_value(document).map_err(|error| Fault::new("writing an event", error))
}

/// Keeps `keep` events and at most a little more, so that most appends delete nothing.
async fn make_room(tx: &mut Tx, worker: &mut Worker, keep: u64) -> Result<(), Stop> {
    let slack = (keep / 10).clamp(1, 256);
    let kept = worker.latest_seq + 1 - worker.oldest_seq;
    if kept < keep + slack {
        return Ok(());
    }
    forget_below(tx, worker, worker.latest_seq + 1 - keep).await
}

/// Forgets the events below a number of a worker that was read under its key. The caller saves the worker.
pub async fn forget_below(tx: &mut Tx, worker: &mut Worker, below: u64) -> Result<(), Stop> {
    rows::prune_events(tx, &worker.worker_id, below).await?;
    worker.oldest_seq = below;
    worker.oldest_at = rows::event(tx, &worker.worker_id, below).await?.map(|event| event.received_at);
    Ok(())
}

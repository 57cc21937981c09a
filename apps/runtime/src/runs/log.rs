//! Decides how a run's log grows: one event, its link of the hash chain, the run's new state and its projection,
//! all in the caller's transaction. Every lane that writes into runs does it here.

use oa_contract::{
    Refusal, Stop, Timestamp, chain,
    chain::ChainHash,
    projection,
    transition::{self, Transition},
    wire::runs::{Actor, EventPosition, RunStatus},
};
use oa_store::{
    Tx,
    tables::runs::{self as table, Head, KeyRow, NewEvent, Projected},
};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::projectors;

/// An event on its way into a log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub event_type: String,
    /// Normalised JSON.
    pub payload: Box<RawValue>,
    pub idempotency_key: Option<String>,
    pub actor: Actor,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Logged {
    pub head: Head,
    pub position: EventPosition,
    /// It had been logged before.
    pub replayed: bool,
}

/// The head of a run before its first event.
pub fn blank_head(run_id: Uuid, owner_key: Option<String>, now: Timestamp) -> Head {
    Head {
        run_id,
        owner_key,
        status: RunStatus::Created,
        latest_seq: 0,
        last_position: 0,
        chain: ChainHash::genesis(run_id),
        updated_at: now,
        projected: Projected {
            seq: 0,
            count: 0,
            status: projection::RUN_BEGINS.to_owned(),
            event_type: String::new(),
            at: now,
        },
    }
}

/// Keys under which the service itself tells what became of money and of evidence. A caller that may name a key
/// of the service names none of these, or it could keep such an event out of the log.
const RESERVED_KEYS: [&str; 10] = [
    "budget-released:",
    "budget-reserved:",
    "cep-settlement:",
    "fraud:",
    "payment:",
    "price-integrity:",
    "quote-commit:",
    "receipt-payment:",
    "verification:",
    "verify:",
];

/// Refuses a caller's key that would be taken for one of the service's own.
pub fn not_reserved(key: &str) -> Result<(), Refusal> {
    match RESERVED_KEYS.iter().find(|prefix| key.starts_with(**prefix)) {
        Some(prefix) => Err(Refusal::invalid(format!(
            "idempotency_key must not begin with {prefix}, which is how settlements are told; choose another prefix"
        ))),
        None => Ok(()),
    }
}

/// The event that the entry's key became, if the key was used. Another content under it is a conflict for a
/// caller; the service's own keys belong to the first writer (§9.3).
pub async fn replayed(tx: &mut Tx, head: &Head, entry: &Entry) -> Result<Option<EventPosition>, Stop> {
    let Some(key) = &entry.idempotency_key else { return Ok(None) };
    let Some(known) = table::key(tx, head.run_id, entry.actor, key).await? else { return Ok(None) };
    if entry.actor == Actor::Caller && known.fingerprint != fingerprint(entry)? {
        return Err(Refusal::conflict("idempotency_key already used with different event").into());
    }
    let event = table::event_at(tx, head.run_id, known.position).await?;
    Ok(Some(EventPosition { run_id: head.run_id, seq: event.seq, hash: event.hash }))
}

/// Appends an event behind `head` and gives the new head. The caller holds the run's key, has looked for a
/// replay, and writes the head (`insert_head` for the first event, `update_head` after).
pub async fn extend(tx: &mut Tx, head: Head, entry: &Entry, now: Timestamp) -> Result<Head, Stop> {
    let status = next_status(head.status, entry)?;
    let seq = head.latest_seq + 1;
    // A clock that steps back must not make a later event older.
    let at = now.max(head.updated_at);
    let key = entry.idempotency_key.as_deref();
    let hash = chain::link(&head.chain, seq, &entry.event_type, entry.payload.get(), key, at, entry.actor);
    let event = NewEvent {
        seq,
        event_type: &entry.event_type,
        payload: &entry.payload,
        idempotency_key: key,
        recorded_at: at,
        actor: entry.actor,
        hash,
    };
    let position = table::insert_event(tx, head.run_id, event, head.last_position).await?;
    if let Some(key) = key {
        let row = KeyRow { fingerprint: fingerprint(entry)?, seq, position };
        table::insert_key(tx, head.run_id, entry.actor, key, &row).await?;
    }
    let projected = projectors::advanced(&head.projected, seq, &entry.event_type, &entry.payload, at);
    Ok(Head {
        status,
        latest_seq: seq,
        last_position: position,
        chain: hash,
        updated_at: at,
        projected,
        ..head
    })
}

/// Appends one event of the service to a run, or finds that it is there already. For the lanes that record what
/// they did in a run: the transaction is theirs.
pub async fn record(tx: &mut Tx, run_id: Uuid, entry: &Entry, now: Timestamp) -> Result<Logged, Stop> {
    let head =
        table::head(tx, run_id).await?.ok_or_else(|| Refusal::not_found(format!("no run {run_id}")))?;
    append(tx, head, entry, now).await
}

/// Appends one event behind `head`, or finds that it is there already.
pub async fn append(tx: &mut Tx, head: Head, entry: &Entry, now: Timestamp) -> Result<Logged, Stop> {
    if let Some(position) = replayed(tx, &head, entry).await? {
        return Ok(Logged { head, position, replayed: true });
    }
    append_fresh(tx, head, entry, now).await
}

/// Appends one event behind `head`, once it is known that its key is fresh.
pub async fn append_fresh(tx: &mut Tx, head: Head, entry: &Entry, now: Timestamp) -> Result<Logged, Stop> {
    let head = extend(tx, head, entry, now).await?;
    table::update_head(tx, &head).await?;
    let position = EventPosition { run_id: head.run_id, seq: head.latest_seq, hash: head.chain.to_string() };
    Ok(Logged { head, position, replayed: false })
}

/// The state after the event; events without a transition leave it alone, in any state.
pub fn next_status(status: RunStatus, entry: &Entry) -> Result<RunStatus, Refusal> {
    match Transition::of(&entry.event_type, &entry.payload)? {
        Some(step) => transition::apply(status, step),
        None => Ok(status),
    }
}

/// What two events under one key are compared by: `canon([event_type, payload])`.
fn fingerprint(entry: &Entry) -> Result<Vec<u8>, Stop> {
    let payload: Value = serde_json::from_str(entry.payload.get())
        .map_err(|error| oa_contract::Fault::new("reading a normalised payload", error))?;
    let content = Value::Array(vec![Value::String(entry.event_type.clone()), payload]);
    let mut hash = Sha256::new();
    oa_contract::canonical::write_canon(&content, &mut hash);
    Ok(hash.finalize().to_vec())
}

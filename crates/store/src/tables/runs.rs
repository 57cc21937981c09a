//! Decides how runs and their log lie in the store: a head that each append rewrites, a log in the order of
//! writing, and the way back from a run to its events (docs/storage.md).

use std::ops::ControlFlow;

use oa_contract::{
    chain::ChainHash,
    instant::Timestamp,
    refusal::{Fault, Stop},
    wire::runs::{Actor, RunEvent, RunStatus},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    engine::EngineKind,
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::{Tx, Wake},
    value::Value,
};

static INSERT: Statement = sealed_statement!("runs/insert", "runs");
static GET: Statement = sealed_statement!("runs/get", "runs");
static LIST: Statement = sealed_statement!("runs/list", "runs");
static LIST_OWNED: Statement = sealed_statement!("runs/list_owned", "runs");
static INSERT_HEAD: Statement = sealed_statement!("runs/insert_head", "run_heads");
static UPDATE_HEAD: Statement = sealed_statement!("runs/update_head", "run_heads");
static HEAD: Statement = sealed_statement!("runs/head", "run_heads");
static INSERT_EVENT: Statement = crate::statement!("runs/insert_event");
static EVENT_AT: Statement = crate::statement!("runs/event_at");
static LINK_AT: Statement = crate::statement!("runs/link_at.sqlite");
static EVENTS_AFTER: Statement = crate::statement!("runs/events_after.postgres");
static INSERT_BLOCK: Statement = sealed_statement!("runs/insert_block.sqlite", "run_blocks");
static BLOCK: Statement = sealed_statement!("runs/block.sqlite", "run_blocks");
static INSERT_KEY: Statement = sealed_statement!("runs/insert_key", "run_event_keys");
static NEXT: Statement = crate::statement!("runs/next");
static KEYS_AFTER: Statement = crate::statement!("runs/keys_after");
static KEY: Statement = sealed_statement!("runs/key", "run_event_keys");

/// Events of one block; a power of two keeps the arithmetic plain.
const BLOCK_EVENTS: u64 = 64;

/// What a run was begun with.
#[derive(Clone, Debug)]
pub struct RunRow {
    pub run_id: Uuid,
    /// `user:<id>`, `guest:<scope>`, or nobody in particular.
    pub owner_key: Option<String>,
    pub worker_id: Option<String>,
    pub metadata: Box<RawValue>,
    pub created_at: Timestamp,
}

/// Where a run stands, with the projection of its log.
#[derive(Clone, Debug)]
pub struct Head {
    pub run_id: Uuid,
    pub owner_key: Option<String>,
    pub status: RunStatus,
    pub latest_seq: u64,
    /// Where the last event stands in the log of all runs.
    pub last_position: i64,
    /// The link of the hash chain that ends with the last event.
    pub chain: ChainHash,
    pub updated_at: Timestamp,
    pub projected: Projected,
}

/// The projection of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    pub seq: u64,
    pub count: u64,
    /// As the log says it: `cancelled` stays `cancelled`.
    pub status: String,
    pub event_type: String,
    pub at: Timestamp,
}

/// A run in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub run: RunRow,
    pub status: RunStatus,
    pub latest_seq: u64,
    pub updated_at: Timestamp,
}

/// An event as it is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    pub seq: u64,
    pub event_type: &'a str,
    pub payload: &'a RawValue,
    pub idempotency_key: Option<&'a str>,
    pub recorded_at: Timestamp,
    pub actor: Actor,
    pub hash: ChainHash,
}

/// Which event a key became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub fingerprint: Vec<u8>,
    pub seq: u64,
    pub position: i64,
}

/// The service's events and the callers' have a namespace each, so that nobody can claim a key of the service.
const fn actor_number(actor: Actor) -> i64 {
    match actor {
        Actor::Service => 0,
        Actor::Caller => 1,
    }
}

fn actor(number: i64) -> Result<Actor, Fault> {
    match number {
        0 => Ok(Actor::Service),
        1 => Ok(Actor::Caller),
        other => Err(Fault::msg(format!("a stored event has the unknown actor {other}"))),
    }
}

fn status(name: &str) -> Result<RunStatus, Fault> {
    RunStatus::parse(name).ok_or_else(|| Fault::msg(format!("a stored run has the unknown status {name:?}")))
}

pub(crate) fn json(text: &str) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(text.to_owned()).map_err(|error| Fault::new("reading stored JSON", error))
}

fn chain_hash(bytes: &[u8]) -> Result<ChainHash, Fault> {
    bytes.try_into().map(ChainHash).map_err(|error| Fault::new("reading a stored hash", error))
}

impl FromRow for RunRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(RunRow {
            run_id: row.uuid(0)?,
            owner_key: row.opt_text(1)?.map(str::to_owned),
            worker_id: row.opt_text(2)?.map(str::to_owned),
            metadata: json(row.text(3)?)?,
            created_at: row.timestamp(4)?,
        })
    }
}

impl FromRow for Listed {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Listed {
            run: RunRow::from_row(row)?,
            status: status(row.text(6)?)?,
            latest_seq: row.uint(7)?,
            updated_at: row.timestamp(8)?,
        })
    }
}

impl FromRow for Head {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Head {
            run_id: row.uuid(0)?,
            owner_key: row.opt_text(1)?.map(str::to_owned),
            status: status(row.text(2)?)?,
            latest_seq: row.uint(3)?,
            last_position: row.int(4)?,
            chain: chain_hash(row.bytes(5)?)?,
            updated_at: row.timestamp(6)?,
            projected: Projected {
                seq: row.uint(7)?,
                count: row.uint(8)?,
                status: row.text(9)?.to_owned(),
                event_type: row.text(10)?.to_owned(),
                at: row.timestamp(11)?,
            },
        })
    }
}

impl FromRow for KeyRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(KeyRow { fingerprint: row.bytes(3)?.to_vec(), seq: row.uint(4)?, position: row.int(5)? })
    }
}

/// An event with whose it is and what stands before it.
struct Stored {
    run_id: Uuid,
    event: RunEvent,
    hash: ChainHash,
    previous_position: i64,
}

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let hash = chain_hash(row.bytes(7)?)?;
        Ok(Stored {
            run_id: row.uuid(0)?,
            event: RunEvent {
                seq: row.uint(1)?,
                event_type: row.text(2)?.to_owned(),
                payload: json(row.text(3)?)?,
                idempotency_key: row.opt_text(4)?.map(str::to_owned),
                recorded_at: row.timestamp(5)?,
                actor: actor(row.int(6)?)?,
                hash: hash.to_string(),
            },
            hash,
            previous_position: row.int(8)?,
        })
    }
}

/// Writes a new run; its head follows with the first event.
pub async fn insert(tx: &mut Tx, run: &RunRow) -> Result<(), Stop> {
    tx.execute(
        &INSERT,
        params![&run.run_id, &run.owner_key, &run.worker_id, run.metadata.get(), run.created_at],
    )
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, run_id: Uuid) -> Result<Option<RunRow>, Stop> {
    tx.one(&GET, params![&run_id]).await
}

pub async fn head(tx: &mut Tx, run_id: Uuid) -> Result<Option<Head>, Stop> {
    tx.one(&HEAD, params![&run_id]).await
}

/// Runs with ids below `before`, newest first; all of them, or those of one owner.
pub async fn list(
    tx: &mut Tx,
    owner: Option<&str>,
    status: Option<RunStatus>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Listed>, Stop> {
    let before = before.unwrap_or(Uuid::max());
    let status = status.map_or("", RunStatus::name);
    let limit = Value::unsigned(limit)?;
    match owner {
        None => tx.all(&LIST, params![&before, status, limit]).await,
        Some(owner) => tx.all(&LIST_OWNED, params![&before, status, limit, owner]).await,
    }
}

/// Writes the head of a run that has just got its first event.
pub async fn insert_head(tx: &mut Tx, head: &Head) -> Result<(), Stop> {
    put_head(tx, &INSERT_HEAD, head).await
}

/// Writes the head anew.
pub async fn update_head(tx: &mut Tx, head: &Head) -> Result<(), Stop> {
    put_head(tx, &UPDATE_HEAD, head).await
}

async fn put_head(tx: &mut Tx, statement: &Statement, head: &Head) -> Result<(), Stop> {
    let projected = &head.projected;
    tx.execute(
        statement,
        params![
            &head.run_id,
            &head.owner_key,
            head.status.name(),
            Value::unsigned(head.latest_seq)?,
            head.last_position,
            &head.chain.0,
            head.updated_at,
            Value::unsigned(projected.seq)?,
            Value::unsigned(projected.count)?,
            &projected.status,
            &projected.event_type,
            projected.at
        ],
    )
    .await?;
    Ok(())
}

/// Writes an event behind the one at `previous_position` and says where it stands. Whoever follows the run is
/// woken after the commit.
pub async fn insert_event(
    tx: &mut Tx,
    run_id: Uuid,
    event: NewEvent<'_>,
    previous_position: i64,
) -> Result<i64, Stop> {
    let (position,) = tx
        .one::<(i64,)>(
            &INSERT_EVENT,
            params![
                &run_id,
                Value::unsigned(event.seq)?,
                event.event_type,
                event.payload.get(),
                event.idempotency_key,
                event.recorded_at,
                actor_number(event.actor),
                &event.hash.0,
                previous_position
            ],
        )
        .await?
        .ok_or_else(|| Fault::msg("an inserted event has no position"))?;
    if event.seq.is_multiple_of(BLOCK_EVENTS) && tx.engine() == EngineKind::Sqlite {
        close_block(tx, run_id, event.seq / BLOCK_EVENTS - 1, position).await?;
    }
    tx.wake(Wake::Run { run_id, seq: event.seq });
    Ok(position)
}

pub async fn insert_key(
    tx: &mut Tx,
    run_id: Uuid,
    actor: Actor,
    key: &str,
    row: &KeyRow,
) -> Result<(), Stop> {
    let params =
        params![&run_id, actor_number(actor), key, &row.fingerprint, Value::unsigned(row.seq)?, row.position];
    tx.execute(&INSERT_KEY, params).await?;
    Ok(())
}

pub async fn key(tx: &mut Tx, run_id: Uuid, actor: Actor, key: &str) -> Result<Option<KeyRow>, Stop> {
    tx.one(&KEY, params![&run_id, actor_number(actor), key]).await
}

/// The event at a position that a key or a head has remembered.
/// The run behind `after`, in the order of their ids; also one that cannot be read any more.
pub async fn next(tx: &mut Tx, after: Uuid) -> Result<Option<Uuid>, Stop> {
    Ok(tx.one::<Id>(&NEXT, params![&after]).await?.map(|Id(run_id)| run_id))
}

/// Keys of the service's events behind `after`, in their order.
pub async fn keys_after(tx: &mut Tx, run_id: Uuid, after: &str, limit: u32) -> Result<Vec<String>, Stop> {
    let actor = actor_number(Actor::Service);
    let keys = tx.all::<(String,)>(&KEYS_AFTER, params![&run_id, actor, after, limit]).await?;
    Ok(keys.into_iter().map(|(key,)| key).collect())
}

struct Id(Uuid);

impl FromRow for Id {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Id(row.uuid(0)?))
    }
}

pub async fn event_at(tx: &mut Tx, run_id: Uuid, position: i64) -> Result<RunEvent, Stop> {
    Ok(stored_at(tx, run_id, position).await?.event)
}

async fn stored_at(tx: &mut Tx, run_id: Uuid, position: i64) -> Result<Stored, Stop> {
    let stored = tx.one::<Stored>(&EVENT_AT, params![position]).await?;
    match stored.filter(|stored| stored.run_id == run_id) {
        Some(stored) => Ok(stored),
        None => Err(lost(run_id, format!("no event of the run stands at position {position}"))),
    }
}

fn lost(run_id: Uuid, what: String) -> Stop {
    Fault::msg(format!("run {run_id}: {what}; stop the service, run `oa verify-store`, and restore a backup"))
        .into()
}

/// Remembers where the events of a block stand that has just become full, following the links back.
async fn close_block(tx: &mut Tx, run_id: Uuid, block: u64, last: i64) -> Result<(), Stop> {
    let mut positions = vec![last];
    while (positions.len() as u64) < BLOCK_EVENTS {
        let at = positions[positions.len() - 1];
        let link = tx.one::<(Uuid, u64, i64)>(&LINK_AT, params![at]).await?;
        match link.filter(|(owner, ..)| *owner == run_id) {
            Some((_, _, previous)) => positions.push(previous),
            None => return Err(lost(run_id, format!("the link to position {at} leads nowhere"))),
        }
    }
    positions.reverse();
    let packed = pack(&positions)?;
    tx.execute(&INSERT_BLOCK, params![&run_id, Value::unsigned(block)?, &packed]).await?;
    Ok(())
}

/// Up to `limit` events after `after`, in order, each checked against the hash chain: an altered event is a
/// fault, never an answer.
pub async fn events_after(tx: &mut Tx, head: &Head, after: u64, limit: u64) -> Result<Vec<RunEvent>, Stop> {
    let wanted = limit.min(head.latest_seq.saturating_sub(after));
    if wanted == 0 {
        return Ok(Vec::new());
    }
    // One event more in front: its hash is what the first one is linked to.
    let from = after.saturating_sub(1);
    let stored = match tx.engine() {
        EngineKind::Postgres => {
            let params =
                params![&head.run_id, Value::unsigned(from)?, Value::unsigned(wanted + after - from)?];
            tx.all::<Stored>(&EVENTS_AFTER, params).await?
        }
        EngineKind::Sqlite => by_position(tx, head, from, after + wanted).await?,
    };
    checked(head, from, after, stored)
}

/// The events `from + 1 ..= to`, found through the blocks and, behind the last full block, the links.
async fn by_position(tx: &mut Tx, head: &Head, from: u64, to: u64) -> Result<Vec<Stored>, Stop> {
    let mut out = Vec::with_capacity(usize::try_from(to - from).unwrap_or_default());
    let mut next = from;
    while next < to {
        let block = next / BLOCK_EVENTS;
        let end = ((block + 1) * BLOCK_EVENTS).min(to);
        match tx.one::<Block>(&BLOCK, params![&head.run_id, Value::unsigned(block)?]).await? {
            Some(Block(positions)) => {
                for seq in next..end {
                    let place = usize::try_from(seq % BLOCK_EVENTS).unwrap_or_default();
                    let position = positions.get(place).copied().unwrap_or_default();
                    out.push(stored_at(tx, head.run_id, position).await?);
                }
                next = end;
            }
            None => {
                out.extend(by_links(tx, head, next, to).await?);
                next = to;
            }
        }
    }
    Ok(out)
}

/// The events `from + 1 ..= to`, walking back from the last one. Only the last, unfilled block is read so.
async fn by_links(tx: &mut Tx, head: &Head, from: u64, to: u64) -> Result<Vec<Stored>, Stop> {
    if head.latest_seq - from > 2 * BLOCK_EVENTS {
        return Err(lost(head.run_id, format!("the block of event {} is missing", from + 1)));
    }
    let mut out = Vec::new();
    let (mut position, mut seq) = (head.last_position, head.latest_seq);
    while seq > from {
        let stored = stored_at(tx, head.run_id, position).await?;
        position = stored.previous_position;
        if seq <= to {
            out.push(stored);
        }
        seq -= 1;
    }
    out.reverse();
    Ok(out)
}

/// Checks order and chain of `from + 1 …`, and gives what comes after `after`.
fn checked(head: &Head, from: u64, after: u64, stored: Vec<Stored>) -> Result<Vec<RunEvent>, Stop> {
    let mut previous = (from == 0).then(|| ChainHash::genesis(head.run_id));
    let mut out = Vec::with_capacity(stored.len());
    for (seq, stored) in (from + 1..).zip(stored) {
        if stored.event.seq != seq {
            return Err(lost(
                head.run_id,
                format!("event {} stands where event {seq} should", stored.event.seq),
            ));
        }
        if previous.is_some_and(|previous| previous.next(&stored.event) != stored.hash) {
            return Err(lost(head.run_id, format!("event {seq} does not match its hash")));
        }
        previous = Some(stored.hash);
        if seq > after {
            out.push(stored.event);
        }
    }
    if out.last().is_some_and(|event| event.seq == head.latest_seq) && previous != Some(head.chain) {
        return Err(lost(head.run_id, "the last event does not match the head".into()));
    }
    match out.is_empty() {
        true => Err(lost(head.run_id, format!("event {} is missing", after + 1))),
        false => Ok(out),
    }
}

struct Block(Vec<i64>);

impl FromRow for Block {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        unpack(row.bytes(2)?).map(Block)
    }
}

/// Positions ascend, so their steps are small: seven bits a byte, the highest says that more follow.
fn pack(positions: &[i64]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(positions.len() * 2);
    let mut last = 0;
    for position in positions {
        let mut step = u64::try_from(position - last)
            .map_err(|error| Fault::new("packing positions that do not ascend", error))?;
        last = *position;
        while step >= 0x80 {
            out.push((step & 0x7f) as u8 | 0x80);
            step >>= 7;
        }
        out.push(step as u8);
    }
    Ok(out)
}

fn unpack(bytes: &[u8]) -> Result<Vec<i64>, Fault> {
    let mut out = Vec::with_capacity(BLOCK_EVENTS as usize);
    let (mut last, mut step, mut shift) = (0i64, 0u64, 0u32);
    for byte in bytes {
        step |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        if byte & 0x80 == 0 {
            last = last
                .checked_add_unsigned(step)
                .ok_or_else(|| Fault::msg("a stored block of positions is damaged"))?;
            out.push(last);
            (step, shift) = (0, 0);
        }
    }
    Ok(out)
}

/// Shows every event of a run to `look`, in pages, so that a long run needs little memory.
pub async fn visit(
    tx: &mut Tx,
    head: &Head,
    look: impl FnMut(&RunEvent) -> Result<ControlFlow<()>, Stop>,
) -> Result<(), Stop> {
    visit_after(tx, head, 0, look).await
}

/// The same for the events after a sequence number.
pub async fn visit_after(
    tx: &mut Tx,
    head: &Head,
    after: u64,
    mut look: impl FnMut(&RunEvent) -> Result<ControlFlow<()>, Stop>,
) -> Result<(), Stop> {
    const PAGE: u64 = 64;
    let mut after = after;
    while after < head.latest_seq {
        for event in events_after(tx, head, after, PAGE).await? {
            after = event.seq;
            if look(&event)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_packing() {
        let positions = vec![1, 2, 130, 131, 70_000, 1 << 40, (1 << 40) + 1, i64::MAX];
        assert_eq!(unpack(&pack(&positions).expect("packed")).expect("unpacked"), positions);
        assert!(pack(&[5, 4]).is_err());
    }
}

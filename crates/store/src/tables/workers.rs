//! Decides how workers and their lifecycle lie in the store: one row a worker, rewritten with each event, and
//! a log whose heartbeats are kept for a while only.

use oa_contract::{
    caller::Owner,
    instant::Timestamp,
    refusal::{Fault, Stop},
    wire::workers::WorkerStatus,
};
use serde_json::value::RawValue;

use crate::{
    engine::EngineKind,
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::runs::{Projected, json},
    transaction::{Tx, Wake},
    value::Value,
};

static GET: Statement = sealed_statement!("workers/get", "workers");
static PUT: Statement = sealed_statement!("workers/put", "workers");
static LIST_SQLITE: Statement = sealed_statement!("workers/list.sqlite", "workers");
static LIST_POSTGRES: Statement = sealed_statement!("workers/list.postgres", "workers");
static NTH_OF_OWNER: Statement = crate::statement!("workers/nth_of_owner");
static LOST: Statement = crate::statement!("workers/lost");
static CHANGED: Statement = crate::statement!("workers/changed");
static ALL_AFTER: Statement = crate::statement!("workers/all_after");
static INSERT_EVENT: Statement = sealed_statement!("workers/insert_event", "worker_events");
static EVENTS_AFTER: Statement = sealed_statement!("workers/events_after", "worker_events");
static LAST_EVENT: Statement = sealed_statement!("workers/last_event", "worker_events");
static PRUNE_EVENTS: Statement = crate::statement!("workers/prune_events");

/// Heartbeats that lie further back in a worker's log than so many events are forgotten.
pub const KEPT_EVENTS: u64 = 1_000;
/// Forgetting happens each time so many events have come, and looks at no more than so many.
const PRUNE_EVERY: u64 = 100;
/// What may be forgotten: a beat, and that a signal was counted, which stands with the signals.
const FORGOTTEN: [&str; 2] = ["worker.heartbeat", "worker.reputation"];

/// A worker as it stands.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub worker_id: String,
    pub owner: Owner,
    pub workspace_ref: Option<String>,
    pub codex_home_ref: Option<String>,
    pub adapter: String,
    pub status: WorkerStatus,
    pub latest_seq: u64,
    /// What the worker says of itself, and nothing that is the service's to say.
    pub metadata: Box<RawValue>,
    pub started_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
    pub last_heartbeat_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub reputation: Reputation,
    pub projected: Projected,
}

/// What the service knows of a provider. Nothing that a worker writes reaches it.
#[derive(Clone, Debug)]
pub struct Reputation {
    /// When the worker last passed the checks of a provider.
    pub qualified_at: Option<Timestamp>,
    pub failure_strikes: u64,
    pub success_count: u64,
    pub quarantined_at: Option<Timestamp>,
    pub quarantine_reason: Option<String>,
    /// The remaining members that the service writes (`last_*`, `price_integrity_*`), one object.
    pub marks: Box<RawValue>,
}

/// One event of a worker's lifecycle.
#[derive(Clone, Debug)]
pub struct WorkerEvent {
    pub seq: u64,
    pub event_type: String,
    pub payload: Box<RawValue>,
    pub recorded_at: Timestamp,
}

fn owner(key: &str) -> Result<Owner, Fault> {
    Owner::parse(key).ok_or_else(|| Fault::msg(format!("a stored worker has the unreadable owner {key:?}")))
}

fn status(name: &str) -> Result<WorkerStatus, Fault> {
    WorkerStatus::parse(name)
        .ok_or_else(|| Fault::msg(format!("a stored worker has the unknown status {name:?}")))
}

impl FromRow for WorkerRow {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(WorkerRow {
            worker_id: row.text(0)?.to_owned(),
            owner: owner(row.text(1)?)?,
            workspace_ref: row.opt_text(2)?.map(str::to_owned),
            codex_home_ref: row.opt_text(3)?.map(str::to_owned),
            adapter: row.text(4)?.to_owned(),
            status: status(row.text(5)?)?,
            latest_seq: row.uint(6)?,
            metadata: json(row.text(7)?)?,
            started_at: row.timestamp(8)?,
            stopped_at: row.opt_timestamp(9)?,
            last_heartbeat_at: row.opt_timestamp(10)?,
            updated_at: row.timestamp(11)?,
            reputation: Reputation {
                qualified_at: row.opt_timestamp(12)?,
                failure_strikes: row.uint(13)?,
                success_count: row.uint(14)?,
                quarantined_at: row.opt_timestamp(15)?,
                quarantine_reason: row.opt_text(16)?.map(str::to_owned),
                marks: json(row.text(17)?)?,
            },
            projected: Projected {
                seq: row.uint(18)?,
                count: row.uint(19)?,
                status: row.text(20)?.to_owned(),
                event_type: row.text(21)?.to_owned(),
                at: row.timestamp(22)?,
            },
        })
    }
}

impl FromRow for WorkerEvent {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(WorkerEvent {
            seq: row.uint(1)?,
            event_type: row.text(2)?.to_owned(),
            payload: json(row.text(3)?)?,
            recorded_at: row.timestamp(4)?,
        })
    }
}

pub async fn get(tx: &mut Tx, worker_id: &str) -> Result<Option<WorkerRow>, Stop> {
    tx.one(&GET, params![worker_id]).await
}

/// Writes the whole row, new or known. The caller holds the key of the worker.
pub async fn put(tx: &mut Tx, row: &WorkerRow) -> Result<(), Stop> {
    let WorkerRow { reputation, projected, .. } = row;
    let owner_key = row.owner.to_string();
    let params = params![
        &row.worker_id,
        &owner_key,
        &row.workspace_ref,
        &row.codex_home_ref,
        &row.adapter,
        row.status.name(),
        Value::unsigned(row.latest_seq)?,
        row.metadata.get(),
        row.started_at,
        row.stopped_at,
        row.last_heartbeat_at,
        row.updated_at,
        reputation.qualified_at,
        Value::unsigned(reputation.failure_strikes)?,
        Value::unsigned(reputation.success_count)?,
        reputation.quarantined_at,
        &reputation.quarantine_reason,
        reputation.marks.get(),
        Value::unsigned(projected.seq)?,
        Value::unsigned(projected.count)?,
        &projected.status,
        &projected.event_type,
        projected.at
    ];
    tx.execute(&PUT, params).await?;
    tx.wake(Wake::Worker { worker_id: row.worker_id.clone() });
    Ok(())
}

/// Ids of workers, whoever's, behind `after` in the order of the store; for reading them all, once.
pub async fn all_after(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<String>, Stop> {
    let rows = tx.all::<(String,)>(&ALL_AFTER, params![after, limit]).await?;
    Ok(rows.into_iter().map(|(worker_id,)| worker_id).collect())
}

/// Ids of workers that were changed at `since` or later and lie behind `after` at that moment, in the order of
/// their changes.
pub async fn changed(
    tx: &mut Tx,
    since: Timestamp,
    after: &str,
    limit: u32,
) -> Result<Vec<(String, Timestamp)>, Stop> {
    tx.all(&CHANGED, params![since, after, limit]).await
}

/// Whether an owner has `count` workers, or more; `count` is at least 1.
pub async fn holds(tx: &mut Tx, owner: &Owner, count: u32) -> Result<bool, Stop> {
    let owner_key = owner.to_string();
    let nth = tx.one::<(String,)>(&NTH_OF_OWNER, params![&owner_key, count.saturating_sub(1)]).await?;
    Ok(nth.is_some())
}

/// Up to `limit` workers of an owner with ids behind `after`, ascending by the bytes of their ids.
pub async fn list(
    tx: &mut Tx,
    owner: &Owner,
    status: Option<WorkerStatus>,
    after: &str,
    limit: i64,
) -> Result<Vec<WorkerRow>, Stop> {
    let owner_key = owner.to_string();
    let statement = match tx.engine() {
        EngineKind::Sqlite => &LIST_SQLITE,
        EngineKind::Postgres => &LIST_POSTGRES,
    };
    tx.all(statement, params![&owner_key, after, status.map_or("", WorkerStatus::name), limit]).await
}

/// Ids of workers in a status that nothing was heard of since `before`, the longest silent first.
pub async fn lost(
    tx: &mut Tx,
    status: WorkerStatus,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<String>, Stop> {
    let rows = tx.all::<(String,)>(&LOST, params![status.name(), before, limit]).await?;
    Ok(rows.into_iter().map(|(worker_id,)| worker_id).collect())
}

/// Writes an event. Every so many events the heartbeats that have become old are forgotten, a bounded number
/// at a time: the log of a worker that only beats does not grow, and no task has to go looking for it.
pub async fn insert_event(tx: &mut Tx, worker_id: &str, event: &WorkerEvent) -> Result<(), Stop> {
    let params = params![
        worker_id,
        Value::unsigned(event.seq)?,
        &event.event_type,
        event.payload.get(),
        event.recorded_at
    ];
    tx.execute(&INSERT_EVENT, params).await?;
    if event.seq > KEPT_EVENTS && event.seq.is_multiple_of(PRUNE_EVERY) {
        let to = event.seq - KEPT_EVENTS;
        let from = to.saturating_sub(PRUNE_EVERY);
        for event_type in FORGOTTEN {
            let params = params![worker_id, Value::unsigned(from)?, Value::unsigned(to)?, event_type];
            tx.execute(&PRUNE_EVENTS, params).await?;
        }
    }
    Ok(())
}

/// Up to `limit` events behind `after`, in order. Old heartbeats are missing, so numbers may leap.
pub async fn events_after(
    tx: &mut Tx,
    worker_id: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<WorkerEvent>, Stop> {
    tx.all(&EVENTS_AFTER, params![worker_id, Value::unsigned(after)?, limit]).await
}

/// The newest event. It is never forgotten.
pub async fn last_event(tx: &mut Tx, worker_id: &str) -> Result<Option<WorkerEvent>, Stop> {
    tx.one(&LAST_EVENT, params![worker_id]).await
}

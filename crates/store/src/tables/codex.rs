//! Decides what is kept of codex workers: one row that says how a worker stands, its events numbered from 1, the
//! requests made of it, and the questions it asked. Whoever writes holds the key of the worker.

use std::ops::ControlFlow;

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
    wire::{codex::CodexEvent, workers::WorkerStatus},
};
use serde_json::value::RawValue;

use super::{runs::json, threads::Before};
use crate::{
    job::Key,
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static PUT_WORKER: Statement = sealed_statement!("codex/put_worker", "codex_workers");
static WORKER: Statement = sealed_statement!("codex/worker", "codex_workers");
static WORKERS: Statement = sealed_statement!("codex/workers", "codex_workers");
static TOUCH: Statement = statement!("codex/touch");
static SILENT: Statement = statement!("codex/silent");
static AGED: Statement = statement!("codex/aged");
static INSERT_EVENT: Statement = sealed_statement!("codex/insert_event", "codex_events");
static EVENT: Statement = sealed_statement!("codex/event", "codex_events");
static EVENT_BY_ID: Statement = sealed_statement!("codex/event_by_id", "codex_events");
static EVENTS_AFTER: Statement = sealed_statement!("codex/events_after", "codex_events");
static AGES: Statement = statement!("codex/ages");
static PRUNE_EVENTS: Statement = statement!("codex/prune_events");
static PUT_REQUEST: Statement = sealed_statement!("codex/put_request", "codex_requests");
static REQUEST: Statement = sealed_statement!("codex/request", "codex_requests");
static PENDING: Statement = sealed_statement!("codex/pending", "codex_requests");
static OVERDUE: Statement = statement!("codex/overdue");
static PUT_APPROVAL: Statement = sealed_statement!("codex/put_approval", "codex_approvals");
static APPROVAL: Statement = sealed_statement!("codex/approval", "codex_approvals");

/// Bytes of payload in one page of events; a page ends early rather than grow beyond.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A worker as it is kept.
#[derive(Clone, Debug)]
pub struct Worker {
    pub worker_id: String,
    pub user_id: String,
    pub status: WorkerStatus,
    pub latest_seq: u64,
    /// The oldest event that is kept; one more than the latest when none is.
    pub oldest_seq: u64,
    /// When that event was received.
    pub oldest_at: Option<Timestamp>,
    pub workspace_ref: Option<String>,
    pub codex_home_ref: Option<String>,
    pub adapter: String,
    pub metadata: Option<Box<RawValue>>,
    pub started_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when nothing was heard of a worker that should be heard of.
    pub silent_since: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// When the worker itself last looked at its feed; written by [`touch`] only.
    pub feed_seen_at: Option<Timestamp>,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    Pending,
    Done,
    Failed,
}

impl RequestState {
    const ALL: [RequestState; 3] = [Self::Pending, Self::Done, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            RequestState::Pending => "pending",
            RequestState::Done => "done",
            RequestState::Failed => "failed",
        }
    }
}

/// A request as it is kept.
#[derive(Clone, Debug)]
pub struct Request {
    pub worker_id: String,
    /// The SHA-256 of the request id, which may have any length.
    pub request_key: [u8; 32],
    pub request_id: String,
    pub fingerprint: [u8; 32],
    pub method: String,
    pub thread_id: Option<String>,
    pub source: Option<String>,
    pub request_version: Option<String>,
    pub session_id: Option<String>,
    pub state: RequestState,
    /// The response, or the error, once it ended.
    pub answer: Option<Box<RawValue>>,
    /// Which event ended it.
    pub receipt: Option<Receipt>,
    pub created_at: Timestamp,
    /// Set while it is pending.
    pub deadline_at: Option<Timestamp>,
}

/// The event that ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub fingerprint: [u8; 32],
    pub seq: u64,
}

/// A question of codex for permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub worker_id: String,
    /// The SHA-256 of the approval id.
    pub approval_key: [u8; 32],
    pub approval_id: String,
    pub asked_seq: u64,
    /// The decision and the event that brought it.
    pub decided: Option<(String, u64)>,
}

fn digest(bytes: &[u8], what: &str) -> Result<[u8; 32], Fault> {
    bytes.try_into().map_err(|error| Fault::new(format!("reading {what}"), error))
}

impl FromRow for Worker {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let status = row.text(2)?;
        Ok(Worker {
            worker_id: row.text(0)?.to_owned(),
            user_id: row.text(1)?.to_owned(),
            status: WorkerStatus::parse(status)
                .ok_or_else(|| Fault::msg(format!("a stored worker has the unknown status {status:?}")))?,
            latest_seq: row.uint(3)?,
            oldest_seq: row.uint(4)?,
            oldest_at: row.opt_timestamp(5)?,
            workspace_ref: row.opt_text(6)?.map(str::to_owned),
            codex_home_ref: row.opt_text(7)?.map(str::to_owned),
            adapter: row.text(8)?.to_owned(),
            metadata: row.opt_text(9)?.map(json).transpose()?,
            started_at: row.timestamp(10)?,
            stopped_at: row.opt_timestamp(11)?,
            last_heartbeat_at: row.opt_timestamp(12)?,
            silent_since: row.opt_timestamp(13)?,
            updated_at: row.timestamp(14)?,
            feed_seen_at: row.opt_timestamp(16)?,
        })
    }
}

/// An event as it is kept is the event as it is shown.
struct Kept(CodexEvent);

impl FromRow for Kept {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Kept(CodexEvent {
            seq: row.uint(1)?,
            event_type: row.text(2)?.to_owned(),
            payload: json(row.text(3)?)?,
            occurred_at: row.timestamp(4)?,
            received_at: row.timestamp(5)?,
            event_id: row.opt_text(6)?.map(str::to_owned),
        }))
    }
}

impl FromRow for Request {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let state = row.text(9)?;
        let receipt = match (row.opt_bytes(11)?, row.opt_uint(12)?) {
            (Some(bytes), Some(seq)) => Some(Receipt { fingerprint: digest(bytes, "a receipt")?, seq }),
            _ => None,
        };
        Ok(Request {
            worker_id: row.text(0)?.to_owned(),
            request_key: digest(row.bytes(1)?, "the key of a request")?,
            request_id: row.text(2)?.to_owned(),
            fingerprint: digest(row.bytes(3)?, "the fingerprint of a request")?,
            method: row.text(4)?.to_owned(),
            thread_id: row.opt_text(5)?.map(str::to_owned),
            source: row.opt_text(6)?.map(str::to_owned),
            request_version: row.opt_text(7)?.map(str::to_owned),
            session_id: row.opt_text(8)?.map(str::to_owned),
            state: RequestState::ALL
                .into_iter()
                .find(|one| one.name() == state)
                .ok_or_else(|| Fault::msg(format!("a stored request has the unknown state {state:?}")))?,
            answer: row.opt_text(10)?.map(json).transpose()?,
            receipt,
            created_at: row.timestamp(13)?,
            deadline_at: row.opt_timestamp(14)?,
        })
    }
}

impl FromRow for Approval {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Approval {
            worker_id: row.text(0)?.to_owned(),
            approval_key: digest(row.bytes(1)?, "the key of an approval")?,
            approval_id: row.text(2)?.to_owned(),
            asked_seq: row.uint(3)?,
            decided: row.opt_text(4)?.map(str::to_owned).zip(row.opt_uint(5)?),
        })
    }
}

/// What whoever writes to a worker holds.
pub fn key(worker_id: &str) -> Key {
    Key::text("codex_worker", worker_id)
}

pub async fn worker(tx: &mut Tx, worker_id: &str) -> Result<Option<Worker>, Stop> {
    tx.one(&WORKER, params![worker_id]).await
}

/// Writes the whole row, new or known, but for the moment at which the worker was last seen at its feed.
pub async fn put_worker(tx: &mut Tx, worker: &Worker) -> Result<(), Stop> {
    let params = params![
        &worker.worker_id,
        &worker.user_id,
        worker.status.name(),
        Value::unsigned(worker.latest_seq)?,
        Value::unsigned(worker.oldest_seq)?,
        worker.oldest_at,
        &worker.workspace_ref,
        &worker.codex_home_ref,
        &worker.adapter,
        worker.metadata.as_ref().map(|metadata| metadata.get()),
        worker.started_at,
        worker.stopped_at,
        worker.last_heartbeat_at,
        worker.silent_since,
        worker.updated_at
    ];
    tx.execute(&PUT_WORKER, params).await?;
    Ok(())
}

/// Which workers to list.
#[derive(Clone, Debug)]
pub struct Filter {
    pub user_id: String,
    pub status: Option<WorkerStatus>,
    pub workspace_ref: Option<String>,
    pub before: Before,
}

/// Up to `limit` workers of a user, the last changed first.
pub async fn workers(tx: &mut Tx, filter: &Filter, limit: u32) -> Result<Vec<Worker>, Stop> {
    let params = params![
        &filter.user_id,
        filter.before.at,
        &filter.before.id,
        filter.status.map_or("", WorkerStatus::name),
        filter.workspace_ref.as_deref().unwrap_or_default(),
        limit
    ];
    tx.all(&WORKERS, params).await
}

/// Notes that the worker looks at its feed, unless that was noted after `stale`.
pub async fn touch(tx: &mut Tx, worker_id: &str, now: Timestamp, stale: Timestamp) -> Result<(), Stop> {
    tx.execute(&TOUCH, params![worker_id, now, stale]).await?;
    Ok(())
}

/// Ids of workers of which nothing was heard since `before`, the longest silent first.
pub async fn silent(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<Vec<String>, Stop> {
    ids(tx, &SILENT, before, limit).await
}

/// Ids of workers with events received before `before`.
pub async fn aged(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<Vec<String>, Stop> {
    ids(tx, &AGED, before, limit).await
}

async fn ids(tx: &mut Tx, statement: &Statement, before: Timestamp, limit: u32) -> Result<Vec<String>, Stop> {
    let rows = tx.all::<(String,)>(statement, params![before, limit]).await?;
    Ok(rows.into_iter().map(|(worker_id,)| worker_id).collect())
}

/// Writes an event that is new; its number must be the next of the worker.
pub async fn insert_event(tx: &mut Tx, worker_id: &str, event: &CodexEvent) -> Result<(), Stop> {
    let params = params![
        worker_id,
        Value::unsigned(event.seq)?,
        &event.event_type,
        event.payload.get(),
        event.occurred_at,
        event.received_at,
        &event.event_id
    ];
    tx.execute(&INSERT_EVENT, params).await?;
    Ok(())
}

pub async fn event(tx: &mut Tx, worker_id: &str, seq: u64) -> Result<Option<CodexEvent>, Stop> {
    let kept = tx.one::<Kept>(&EVENT, params![worker_id, Value::unsigned(seq)?]).await?;
    Ok(kept.map(|kept| kept.0))
}

pub async fn event_by_id(tx: &mut Tx, worker_id: &str, event_id: &str) -> Result<Option<CodexEvent>, Stop> {
    Ok(tx.one::<Kept>(&EVENT_BY_ID, params![worker_id, event_id]).await?.map(|kept| kept.0))
}

/// Up to `limit` events behind `after`, in order. Fewer when their payloads are large; at least one if there is one.
pub async fn events_after(
    tx: &mut Tx,
    worker_id: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<CodexEvent>, Stop> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    tx.visit(&EVENTS_AFTER, params![worker_id, Value::unsigned(after)?, limit], |row| {
        let Kept(event) = Kept::from_row(row)?;
        bytes += event.payload.get().len();
        events.push(event);
        Ok(if bytes < PAGE_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .await?;
    Ok(events)
}

/// When each of up to `limit` events from `from` on was received.
pub async fn ages(
    tx: &mut Tx,
    worker_id: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<(u64, Timestamp)>, Stop> {
    let rows = tx.all::<(u64, i64)>(&AGES, params![worker_id, Value::unsigned(from)?, limit]).await?;
    Ok(rows.into_iter().map(|(seq, at)| (seq, Timestamp::from_micros(at))).collect())
}

/// Forgets the events below `below`.
pub async fn prune_events(tx: &mut Tx, worker_id: &str, below: u64) -> Result<(), Stop> {
    tx.execute(&PRUNE_EVENTS, params![worker_id, Value::unsigned(below)?]).await?;
    Ok(())
}

pub async fn request(tx: &mut Tx, worker_id: &str, request_key: &[u8; 32]) -> Result<Option<Request>, Stop> {
    tx.one(&REQUEST, params![worker_id, request_key.as_slice()]).await
}

/// Writes the whole row, new or known.
pub async fn put_request(tx: &mut Tx, request: &Request) -> Result<(), Stop> {
    let receipt_seq = request.receipt.map(|receipt| Value::unsigned(receipt.seq)).transpose()?;
    let params = params![
        &request.worker_id,
        request.request_key.as_slice(),
        &request.request_id,
        request.fingerprint.as_slice(),
        &request.method,
        &request.thread_id,
        &request.source,
        &request.request_version,
        &request.session_id,
        request.state.name(),
        request.answer.as_ref().map(|answer| answer.get()),
        request.receipt.as_ref().map(|receipt| receipt.fingerprint.as_slice()),
        receipt_seq.unwrap_or(Value::Null),
        request.created_at,
        request.deadline_at
    ];
    tx.execute(&PUT_REQUEST, params).await?;
    Ok(())
}

/// Up to `limit` requests that the worker has not answered, the most urgent first.
pub async fn pending(tx: &mut Tx, worker_id: &str, limit: u32) -> Result<Vec<Request>, Stop> {
    tx.all(&PENDING, params![worker_id, limit]).await
}

/// Worker and key of up to `limit` requests whose time is over at `now`.
pub async fn overdue(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<(String, [u8; 32])>, Stop> {
    let mut found = Vec::new();
    tx.visit(&OVERDUE, params![now, limit], |row| {
        found.push((row.text(0)?.to_owned(), digest(row.bytes(1)?, "the key of a request")?));
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(found)
}

pub async fn approval(
    tx: &mut Tx,
    worker_id: &str,
    approval_key: &[u8; 32],
) -> Result<Option<Approval>, Stop> {
    tx.one(&APPROVAL, params![worker_id, approval_key.as_slice()]).await
}

/// Writes the whole row, new or known.
pub async fn put_approval(tx: &mut Tx, approval: &Approval) -> Result<(), Stop> {
    let decided_seq = approval.decided.as_ref().map(|(_, seq)| Value::unsigned(*seq)).transpose()?;
    let params = params![
        &approval.worker_id,
        approval.approval_key.as_slice(),
        &approval.approval_id,
        Value::unsigned(approval.asked_seq)?,
        approval.decided.as_ref().map(|(decision, _)| decision.as_str()),
        decided_seq.unwrap_or(Value::Null)
    ];
    tx.execute(&PUT_APPROVAL, params).await?;
    Ok(())
}

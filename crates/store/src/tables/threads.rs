//! Decides what is kept of threads: one row that says how a thread stands, its messages numbered from 1, and the
//! turns of codex in it. Whoever writes holds the key of the thread.

use std::ops::ControlFlow;

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
    wire::threads::Role,
};

use crate::{
    job::Key,
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
    value::Value,
};

static PUT: Statement = sealed_statement!("threads/put", "threads");
static GET: Statement = sealed_statement!("threads/get", "threads");
static LIST: Statement = sealed_statement!("threads/list", "threads");
static LIST_OF_AUTOPILOT: Statement = sealed_statement!("threads/list_of_autopilot", "threads");
static INSERT_MESSAGE: Statement = sealed_statement!("threads/insert_message", "thread_messages");
static MESSAGES_AFTER: Statement = sealed_statement!("threads/messages_after", "thread_messages");
static MESSAGES_BEFORE: Statement = sealed_statement!("threads/messages_before", "thread_messages");
static MESSAGE_OF_ITEM: Statement = sealed_statement!("threads/message_of_item", "thread_messages");
static PUT_TURN: Statement = sealed_statement!("threads/put_turn", "thread_turns");
static TURN: Statement = sealed_statement!("threads/turn", "thread_turns");
static RUNNING_TURNS_OF: Statement = sealed_statement!("threads/running_turns_of", "thread_turns");
static TURNS: Statement = sealed_statement!("threads/turns", "thread_turns");

/// Bytes of text in one page of messages; a page ends early rather than grow beyond.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A thread as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub thread_id: String,
    pub user_id: String,
    pub org_id: String,
    pub autopilot_id: Option<String>,
    pub title: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub message_count: u64,
    pub last_message_at: Option<Timestamp>,
}

impl Thread {
    /// A thread without a message.
    pub fn new(thread_id: &str, user_id: &str, org_id: &str, now: Timestamp) -> Self {
        Thread {
            thread_id: thread_id.to_owned(),
            user_id: user_id.to_owned(),
            org_id: org_id.to_owned(),
            autopilot_id: None,
            title: None,
            created_at: now,
            updated_at: now,
            message_count: 0,
            last_message_at: None,
        }
    }
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub thread_id: String,
    pub seq: u64,
    pub message_id: String,
    pub user_id: String,
    pub role: Role,
    pub text: String,
    pub created_at: Timestamp,
    pub turn_id: Option<String>,
    /// Which item of codex it is; told twice, it is kept once.
    pub item_key: Option<[u8; 32]>,
}

/// How a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnStatus {
    Running,
    Completed,
    Failed,
    Interrupted,
}

impl TurnStatus {
    pub const ALL: [TurnStatus; 4] = [Self::Running, Self::Completed, Self::Failed, Self::Interrupted];

    pub const fn name(self) -> &'static str {
        match self {
            TurnStatus::Running => "running",
            TurnStatus::Completed => "completed",
            TurnStatus::Failed => "failed",
            TurnStatus::Interrupted => "interrupted",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A turn as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub thread_id: String,
    /// Codex's own.
    pub turn_id: String,
    pub worker_id: String,
    /// The control request that began it.
    pub request_id: Option<String>,
    pub status: TurnStatus,
    pub model: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Where a page of threads or turns begins: entries strictly older than this, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    pub at: Timestamp,
    pub id: String,
}

impl Before {
    /// Before nothing: from the newest.
    pub fn newest() -> Self {
        Before { at: Timestamp::from_micros(i64::MAX / 1_000), id: String::new() }
    }
}

impl FromRow for Thread {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Thread {
            thread_id: row.text(0)?.to_owned(),
            user_id: row.text(1)?.to_owned(),
            org_id: row.text(2)?.to_owned(),
            autopilot_id: row.opt_text(3)?.map(str::to_owned),
            title: row.opt_text(4)?.map(str::to_owned),
            created_at: row.timestamp(5)?,
            updated_at: row.timestamp(6)?,
            message_count: row.uint(7)?,
            last_message_at: row.opt_timestamp(8)?,
        })
    }
}

impl FromRow for Message {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let role = row.text(4)?;
        let role = Role::parse(role)
            .ok_or_else(|| Fault::msg(format!("a stored message has the unknown role {role:?}")))?;
        let item_key = row.opt_bytes(8)?.map(<[u8; 32]>::try_from).transpose();
        Ok(Message {
            thread_id: row.text(0)?.to_owned(),
            seq: row.uint(1)?,
            message_id: row.text(2)?.to_owned(),
            user_id: row.text(3)?.to_owned(),
            role,
            text: row.text(5)?.to_owned(),
            created_at: row.timestamp(6)?,
            turn_id: row.opt_text(7)?.map(str::to_owned),
            item_key: item_key.map_err(|error| Fault::new("reading the item of a stored message", error))?,
        })
    }
}

impl FromRow for Turn {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let status = row.text(4)?;
        Ok(Turn {
            thread_id: row.text(0)?.to_owned(),
            turn_id: row.text(1)?.to_owned(),
            worker_id: row.text(2)?.to_owned(),
            request_id: row.opt_text(3)?.map(str::to_owned),
            status: TurnStatus::parse(status)
                .ok_or_else(|| Fault::msg(format!("a stored turn has the unknown status {status:?}")))?,
            model: row.opt_text(5)?.map(str::to_owned),
            started_at: row.timestamp(6)?,
            ended_at: row.opt_timestamp(7)?,
        })
    }
}

/// What whoever writes to a thread holds.
pub fn key(thread_id: &str) -> Key {
    Key::text("thread", thread_id)
}

pub async fn get(tx: &mut Tx, thread_id: &str) -> Result<Option<Thread>, Stop> {
    tx.one(&GET, params![thread_id]).await
}

/// Writes the whole row, new or known.
pub async fn put(tx: &mut Tx, thread: &Thread) -> Result<(), Stop> {
    let params = params![
        &thread.thread_id,
        &thread.user_id,
        &thread.org_id,
        &thread.autopilot_id,
        &thread.title,
        thread.created_at,
        thread.updated_at,
        Value::unsigned(thread.message_count)?,
        thread.last_message_at
    ];
    tx.execute(&PUT, params).await?;
    Ok(())
}

/// Up to `limit` threads of a user in an organisation, the last changed first.
pub async fn list(
    tx: &mut Tx,
    user_id: &str,
    org_id: &str,
    before: &Before,
    limit: u32,
) -> Result<Vec<Thread>, Stop> {
    tx.all(&LIST, params![user_id, org_id, before.at, &before.id, limit]).await
}

/// Up to `limit` threads of a user that are bound to an autopilot, the last changed first.
pub async fn list_of_autopilot(
    tx: &mut Tx,
    autopilot_id: &str,
    user_id: &str,
    before: &Before,
    limit: u32,
) -> Result<Vec<Thread>, Stop> {
    tx.all(&LIST_OF_AUTOPILOT, params![autopilot_id, user_id, before.at, &before.id, limit]).await
}

/// Writes a message that is new; its number must be the next of the thread.
pub async fn insert_message(tx: &mut Tx, message: &Message) -> Result<(), Stop> {
    let params = params![
        &message.thread_id,
        Value::unsigned(message.seq)?,
        &message.message_id,
        &message.user_id,
        message.role.name(),
        &message.text,
        message.created_at,
        &message.turn_id,
        message.item_key.as_ref().map(<[u8; 32]>::as_slice)
    ];
    tx.execute(&INSERT_MESSAGE, params).await?;
    Ok(())
}

/// Up to `limit` messages behind `after`, in order. Fewer when their text is long; at least one if there is one.
pub async fn messages_after(
    tx: &mut Tx,
    thread_id: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Message>, Stop> {
    page(tx, &MESSAGES_AFTER, params![thread_id, Value::unsigned(after)?, limit]).await
}

/// Up to `limit` messages before `before`, in order: those that stand nearest to it.
pub async fn messages_before(
    tx: &mut Tx,
    thread_id: &str,
    before: u64,
    limit: u32,
) -> Result<Vec<Message>, Stop> {
    let mut messages =
        page(tx, &MESSAGES_BEFORE, params![thread_id, Value::unsigned(before)?, limit]).await?;
    messages.reverse();
    Ok(messages)
}

async fn page(tx: &mut Tx, statement: &Statement, params: &[Value<'_>]) -> Result<Vec<Message>, Stop> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    tx.visit(statement, params, |row| {
        let message = Message::from_row(row)?;
        bytes += message.text.len();
        messages.push(message);
        Ok(if bytes < PAGE_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .await?;
    Ok(messages)
}

/// The message that an item of codex became.
pub async fn message_of_item(
    tx: &mut Tx,
    thread_id: &str,
    item_key: &[u8; 32],
) -> Result<Option<Message>, Stop> {
    tx.one(&MESSAGE_OF_ITEM, params![thread_id, item_key.as_slice()]).await
}

/// Writes the whole row, new or known.
pub async fn put_turn(tx: &mut Tx, turn: &Turn) -> Result<(), Stop> {
    let params = params![
        &turn.thread_id,
        &turn.turn_id,
        &turn.worker_id,
        &turn.request_id,
        turn.status.name(),
        &turn.model,
        turn.started_at,
        turn.ended_at
    ];
    tx.execute(&PUT_TURN, params).await?;
    Ok(())
}

pub async fn turn(tx: &mut Tx, thread_id: &str, turn_id: &str) -> Result<Option<Turn>, Stop> {
    tx.one(&TURN, params![thread_id, turn_id]).await
}

/// Up to `limit` turns of a thread, the newest first.
pub async fn turns(tx: &mut Tx, thread_id: &str, before: &Before, limit: u32) -> Result<Vec<Turn>, Stop> {
    tx.all(&TURNS, params![thread_id, before.at, &before.id, limit]).await
}

/// Up to `limit` turns that a worker is in, the longest running first.
pub async fn running_turns_of(tx: &mut Tx, worker_id: &str, limit: u32) -> Result<Vec<Turn>, Stop> {
    tx.all(&RUNNING_TURNS_OF, params![worker_id, TurnStatus::Running.name(), limit]).await
}

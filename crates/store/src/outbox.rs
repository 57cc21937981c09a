//! Decides how work leaves a transaction: written down with its cause, handed out with a lease, tried
//! again until it is done or given up, and never dropped in silence.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::{Fault, Stop};

use crate::row::{FromRow, Row};
use crate::statement::Statement;
use crate::transaction::{Tx, Wake};
use crate::value::Value;
use crate::{params, sealed_statement, statement};

static ENQUEUE: Statement = sealed_statement!("outbox/enqueue", "outbox");
static DUE: Statement = sealed_statement!("outbox/due", "outbox");
static FIND: Statement = sealed_statement!("outbox/find", "outbox");
static LEASE: Statement = statement!("outbox/lease");
static DELAY: Statement = statement!("outbox/delay");
static REMOVE: Statement = statement!("outbox/remove");
static BURY: Statement = sealed_statement!("outbox/bury", "outbox_dead");
static DEAD: Statement = sealed_statement!("outbox/dead", "outbox_dead");
static DEPTH: Statement = statement!("outbox/depth");

/// The longest error text that is kept.
const ERROR_LENGTH: usize = 1000;

/// A message to be delivered at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Ascending in the order of writing, never used twice.
    pub id: i64,
    pub topic: String,
    pub payload: String,
    pub created_at: Timestamp,
    /// Deliveries begun, this one included.
    pub attempts: i64,
    pub last_error: Option<String>,
}

impl FromRow for Message {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Message {
            topic: row.text(0)?.into(),
            payload: row.text(1)?.into(),
            created_at: row.timestamp(2)?,
            id: row.int(4)?,
            attempts: row.int(5)?,
            last_error: row.opt_text(6)?.map(str::to_owned),
        })
    }
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: i64,
    pub topic: String,
    pub payload: String,
    pub created_at: Timestamp,
    pub attempts: i64,
    pub died_at: Timestamp,
    pub last_error: String,
}

impl FromRow for DeadLetter {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(DeadLetter {
            topic: row.text(0)?.into(),
            payload: row.text(1)?.into(),
            created_at: row.timestamp(2)?,
            id: row.int(3)?,
            attempts: row.int(4)?,
            died_at: row.timestamp(5)?,
            last_error: row.text(6)?.into(),
        })
    }
}

/// What to hand out.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub now: Timestamp,
    /// How long nobody else gets the same message.
    pub lease_ms: i64,
    pub limit: u32,
    pub topics: &'a [&'a str],
    /// Deliveries begun before a message is given up, even when nobody reported how they ended.
    pub max_attempts: i64,
}

/// What became of a message that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    Later,
    Dead,
    /// It was completed or given up meanwhile.
    Gone,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// All messages that are not done, leased ones included.
    pub waiting: i64,
    pub leased: i64,
    pub dead: i64,
    pub oldest: Option<Timestamp>,
}

/// Writes a message down in the transaction of its cause, and wakes whoever delivers.
pub async fn enqueue(tx: &mut Tx, topic: &str, payload: &str, now: Timestamp) -> Result<i64, Stop> {
    let row = tx.one::<(i64,)>(&ENQUEUE, params![topic, payload, now]).await?;
    let (id,) = row.ok_or_else(|| Fault::msg("the outbox gave no id to a message"))?;
    tx.wake(Wake::Outbox);
    Ok(id)
}

/// Hands out what is due, in the order of writing. What was begun too often already is given up instead.
pub async fn claim(tx: &mut Tx, ask: Claim<'_>) -> Result<Vec<Message>, Stop> {
    let mut due = Vec::new();
    for topic in ask.topics {
        due.extend(tx.all::<Message>(&DUE, params![*topic, ask.now, ask.limit]).await?);
    }
    due.sort_unstable_by_key(|message| message.id);
    due.truncate(ask.limit as usize);
    let until = ask.now.plus_millis(ask.lease_ms);
    let mut claimed = Vec::with_capacity(due.len());
    for mut message in due {
        if tx.execute(&LEASE, params![message.id, ask.now, until]).await? == 0 {
            continue;
        }
        if message.attempts >= ask.max_attempts {
            let why = message.last_error.clone().unwrap_or_else(|| "nobody reported how it ended".into());
            bury(tx, &message, &why, ask.now).await?;
            continue;
        }
        message.attempts += 1;
        claimed.push(message);
    }
    Ok(claimed)
}

/// Forgets messages that were delivered; says how many were still there.
pub async fn complete(tx: &mut Tx, ids: &[i64]) -> Result<u64, Stop> {
    let mut done = 0;
    for id in ids {
        done += tx.execute(&REMOVE, params![*id]).await?;
    }
    Ok(done)
}

/// Gives a message back with the reason, to be tried at `next`, or gives it up.
pub async fn retry(
    tx: &mut Tx,
    id: i64,
    error: &str,
    now: Timestamp,
    next: Timestamp,
    max_attempts: i64,
) -> Result<Retried, Stop> {
    let Some(message) = tx.one::<Message>(&FIND, params![id]).await? else { return Ok(Retried::Gone) };
    if message.attempts >= max_attempts {
        bury(tx, &message, error, now).await?;
        return Ok(Retried::Dead);
    }
    tx.execute(&DELAY, params![id, next, shorten(error).as_str()]).await?;
    Ok(Retried::Later)
}

/// The messages that were given up, in the order of writing, after the given id.
pub async fn dead(tx: &mut Tx, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Stop> {
    tx.all(&DEAD, params![after, limit]).await
}

/// How much waits, and since when.
pub async fn depth(tx: &mut Tx, now: Timestamp) -> Result<Depth, Stop> {
    let row = tx.one::<(i64, i64, i64, Option<Timestamp>)>(&DEPTH, params![now]).await?;
    let (waiting, leased, dead, oldest) = row.ok_or_else(|| Fault::msg("the outbox could not be counted"))?;
    Ok(Depth { waiting, leased, dead, oldest })
}

async fn bury(tx: &mut Tx, message: &Message, error: &str, now: Timestamp) -> Result<(), Stop> {
    let error = shorten(error);
    let row: &[Value<'_>] = params![
        &message.topic,
        &message.payload,
        message.created_at,
        message.id,
        message.attempts,
        now,
        &error
    ];
    tx.execute(&BURY, row).await?;
    tx.execute(&REMOVE, params![message.id]).await?;
    metrics::counter!("oa_outbox_dead_total", "topic" => message.topic.clone()).increment(1);
    Ok(())
}

/// Errors come from elsewhere and may hold anything.
fn shorten(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(ERROR_LENGTH).collect()
}

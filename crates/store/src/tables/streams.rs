//! Decides how streams are numbered and kept: each gets its own sequence without a gap, in the transaction
//! that takes the message out of the outbox. Streams of runs are not here: a run's log is its stream.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};
use serde_json::value::RawValue;

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    tables::runs::json,
    transaction::{Tx, Wake},
    value::Value,
};

static HEAD: Statement = sealed_statement!("streams/head", "stream_heads");
static PUT_HEAD: Statement = sealed_statement!("streams/put_head", "stream_heads");
static INSERT: Statement = sealed_statement!("streams/insert_event", "stream_events");
static BY_OUTBOX: Statement = crate::statement!("streams/by_outbox");
static AFTER: Statement = sealed_statement!("streams/after", "stream_events");
static PRUNE: Statement = crate::statement!("streams/prune");

/// How far a stream has come, and what of it is still kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHead {
    pub head_seq: u64,
    pub oldest_seq: u64,
}

/// One published message.
#[derive(Clone, Debug)]
pub struct StreamEvent {
    pub seq: u64,
    pub topic: String,
    pub kind: String,
    pub payload: Box<RawValue>,
    pub published_at: Timestamp,
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    pub stream_id: &'a str,
    pub topic: &'a str,
    pub kind: &'a str,
    pub payload: &'a str,
    pub published_at: Timestamp,
    /// The outbox entry that it comes from: published once, however often it is tried.
    pub outbox_id: i64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Now { seq: u64 },
    Before { seq: u64 },
}

impl FromRow for StreamHead {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(StreamHead { head_seq: row.uint(1)?, oldest_seq: row.uint(2)? })
    }
}

impl FromRow for StreamEvent {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(StreamEvent {
            seq: row.uint(1)?,
            topic: row.text(2)?.to_owned(),
            kind: row.text(3)?.to_owned(),
            payload: json(row.text(4)?)?,
            published_at: row.timestamp(5)?,
        })
    }
}

pub async fn head(tx: &mut Tx, stream_id: &str) -> Result<Option<StreamHead>, Stop> {
    tx.one(&HEAD, params![stream_id]).await
}

/// Gives a message the next number of its stream, keeps at most `keep` messages of it, and wakes whoever
/// follows. The caller holds the key of the stream.
pub async fn publish(tx: &mut Tx, message: NewMessage<'_>, keep: u64) -> Result<Published, Stop> {
    let stream_id = message.stream_id;
    if let Some((seq,)) = tx.one::<(u64,)>(&BY_OUTBOX, params![stream_id, message.outbox_id]).await? {
        return Ok(Published::Before { seq });
    }
    let before = head(tx, stream_id).await?.unwrap_or(StreamHead { head_seq: 0, oldest_seq: 1 });
    let seq = before.head_seq + 1;
    let params = params![
        stream_id,
        Value::unsigned(seq)?,
        message.topic,
        message.kind,
        message.payload,
        message.published_at,
        message.outbox_id
    ];
    tx.execute(&INSERT, params).await?;
    let oldest_seq = before.oldest_seq.max((seq + 1).saturating_sub(keep.max(1)));
    if oldest_seq > before.oldest_seq {
        tx.execute(&PRUNE, params![stream_id, Value::unsigned(oldest_seq)?]).await?;
    }
    tx.execute(&PUT_HEAD, params![stream_id, Value::unsigned(seq)?, Value::unsigned(oldest_seq)?]).await?;
    tx.wake(Wake::Stream { stream_id: stream_id.to_owned(), seq });
    Ok(Published::Now { seq })
}

/// Up to `limit` messages after `after`, in order.
pub async fn after(tx: &mut Tx, stream_id: &str, after: u64, limit: u64) -> Result<Vec<StreamEvent>, Stop> {
    tx.all(&AFTER, params![stream_id, Value::unsigned(after)?, Value::unsigned(limit)?]).await
}

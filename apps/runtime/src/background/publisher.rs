//! Decides when a message of the outbox becomes part of its stream: in order, once, and never in the way of the
//! request that caused it (runtime-core §12). Streams of runs need no publisher: a run's log is its stream.

use std::{sync::Arc, time::Duration};

use oa_contract::{Fault, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    outbox::{self, Claim},
    tables::streams::{self, NewMessage, Published},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Runtime, hub::stream_of_topic};

/// The outbox topic of messages for streams.
pub const OUTBOX_TOPIC: &str = "stream";
/// Looked at without a wake at least so often: another replica's wake does not reach us.
const IDLE: Duration = Duration::from_millis(500);
/// Messages in one transaction; small enough that requests are not held up behind them.
const BATCH: u32 = 64;
const LEASE_MS: i64 = 10_000;
const ATTEMPTS: i64 = 20;

/// A message on its way to one or more streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamMessage {
    /// Each topic has its own stream and its own numbers.
    pub topics: Vec<String>,
    pub kind: String,
    pub payload: Box<RawValue>,
    /// Microseconds since 1970.
    pub at_micros: i64,
}

/// Puts a message into the outbox, in the transaction of its cause.
pub async fn send(tx: &mut Tx, message: &StreamMessage, now: Timestamp) -> Result<(), Stop> {
    let text =
        serde_json::to_string(message).map_err(|error| Fault::new("writing a stream message", error))?;
    outbox::enqueue(tx, OUTBOX_TOPIC, &text, now).await?;
    Ok(())
}

/// Publishes until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>) {
    loop {
        let drained = drain(runtime).await;
        // A publisher that always fails is not alive, and `/readyz` says so.
        if drained.is_ok() {
            runtime.heartbeats.publisher_beats(runtime.now());
        }
        match drained {
            Ok(0) => {
                let _ = tokio::time::timeout(IDLE, runtime.hub.outbox.notified()).await;
            }
            Ok(_) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "the publisher could not publish; it tries again");
                tokio::time::sleep(IDLE).await;
            }
        }
    }
}

/// Publishes what is due and says how many messages that were. Taking a message out of the outbox and into its
/// streams is one transaction under one key, so that replicas publish in one order and nothing twice.
pub async fn drain(runtime: &Arc<Runtime>) -> Result<usize, Stop> {
    let ask = Ask {
        now: runtime.now(),
        lifecycle: runtime.config.lifecycle_retention,
        fallback: runtime.config.fallback_retention,
    };
    let outcomes = runtime
        .store
        .write("publisher.drain", Key::text("publisher", OUTBOX_TOPIC), ask, publish_due)
        .await?;
    let counters = &runtime.hub.counters;
    for outcome in &outcomes {
        match outcome {
            Outcome::Into(Published::Now { seq }) => counters.published(*seq),
            Outcome::Into(Published::Before { .. }) => counters.duplicate(),
            Outcome::Unreadable => counters.failed(),
        }
    }
    Ok(outcomes.len())
}

struct Ask {
    now: Timestamp,
    lifecycle: u64,
    fallback: u64,
}

enum Outcome {
    Into(Published),
    Unreadable,
}

async fn publish_due(tx: &mut Tx, ask: &Ask) -> Result<Vec<Outcome>, Stop> {
    let claim = Claim {
        now: ask.now,
        lease_ms: LEASE_MS,
        limit: BATCH,
        topics: &[OUTBOX_TOPIC],
        max_attempts: ATTEMPTS,
    };
    let mut outcomes = Vec::new();
    for message in outbox::claim(tx, claim).await? {
        match serde_json::from_str::<StreamMessage>(&message.payload) {
            Ok(parsed) => {
                into_streams(tx, ask, message.id, &parsed, &mut outcomes).await?;
                outbox::complete(tx, &[message.id]).await?;
            }
            // It holds nobody up: tried again later, buried in the end, counted every time.
            Err(error) => {
                outbox::retry(
                    tx,
                    message.id,
                    &error.to_string(),
                    ask.now,
                    ask.now.plus_seconds(60),
                    ATTEMPTS,
                )
                .await?;
                outcomes.push(Outcome::Unreadable);
            }
        }
    }
    Ok(outcomes)
}

async fn into_streams(
    tx: &mut Tx,
    ask: &Ask,
    outbox_id: i64,
    message: &StreamMessage,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Stop> {
    for topic in &message.topics {
        let stream_id = stream_of_topic(topic);
        let keep = if stream_id.starts_with("runtime.topic.") { ask.fallback } else { ask.lifecycle };
        let new = NewMessage {
            stream_id: &stream_id,
            topic,
            kind: &message.kind,
            payload: message.payload.get(),
            published_at: Timestamp::from_micros(message.at_micros),
            outbox_id,
        };
        outcomes.push(Outcome::Into(streams::publish(tx, new, keep).await?));
    }
    Ok(())
}

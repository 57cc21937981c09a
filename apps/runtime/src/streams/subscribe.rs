//! Decides who may follow which stream, and what they are sent: every event after their position, once, in
//! order, then more as it is committed (runtime-core §12, §23.5). The reader pulls; a slow one slows nobody.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Owner, Refusal, Stop, Streamed, Timestamp, matrix::StreamsSubscribe,
    operation::EventStream, projection,
};
use oa_store::{
    Store, Tx,
    tables::{runs as run_table, streams, workers},
};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::cursor::{Window, resume};
use crate::{
    Runtime,
    hub::{Follower, Hub},
    runs,
};

/// Events in one read: a page of the largest payloads still fits into memory many times.
const PAGE: u64 = 16;
/// A comment is sent when nothing else was for so long, so that proxies and readers know that the line lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a stream id means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Run(Uuid),
    Worker(String),
    Fleet(Owner),
    /// Topics of the service itself, for operators.
    Topic,
}

/// One message as it is sent.
struct Message {
    seq: u64,
    topic: String,
    kind: String,
    published_at: Timestamp,
    payload: Box<RawValue>,
}

/// The envelope of §12, in its order.
#[derive(Serialize)]
struct Envelope<'a> {
    topic: &'a str,
    sequence: u64,
    kind: &'a str,
    published_at: String,
    payload: &'a RawValue,
}

impl Handle<StreamsSubscribe> for Runtime {
    async fn handle(&self, ask: Ask<StreamsSubscribe>) -> Result<Answer<Streamed<EventStream>>, Stop> {
        let stream_id = ask.path.stream;
        let source = source(&stream_id).ok_or_else(|| unknown(&stream_id))?;
        let after = position(ask.meta.header("last-event-id"), ask.query.after)?;
        // Followed before the window is read: what is committed in between wakes us.
        let follower = self.hub.follow(&stream_id);
        let look = (stream_id.clone(), source.clone(), ask.caller);
        let window = self.store.read("streams.window", look, window).await?;
        if let Err(refusal) = resume(after, window) {
            self.hub.counters.stale_cursors.fetch_add(1, Ordering::Relaxed);
            return Err(refusal.into());
        }
        let until = ask.query.until_head.unwrap_or(false).then_some(window.head_seq);
        let following = Following {
            store: self.store.clone(),
            hub: self.hub.clone(),
            draining: self.draining.clone(),
            stream_id,
            source,
            follower,
            after,
            until,
            greeted: false,
            waiting: false,
        };
        let answer = Answer::new(Streamed::new(stream::try_unfold(following, next)));
        Ok(answer.with_header("cache-control", "no-store").with_header("x-accel-buffering", "no"))
    }
}

fn unknown(stream_id: &str) -> Refusal {
    Refusal::not_found(format!("no stream {stream_id:?}"))
}

/// Reads a stream id back (§12).
fn source(stream_id: &str) -> Option<Source> {
    let rest = stream_id.strip_prefix("runtime.")?;
    if let Some(id) = rest.strip_prefix("run.").and_then(|rest| rest.strip_suffix(".events")) {
        return id.parse().ok().filter(|run_id: &Uuid| run_id.to_string() == id).map(Source::Run);
    }
    if let Some(id) = rest.strip_prefix("worker.").and_then(|rest| rest.strip_suffix(".lifecycle")) {
        return Some(Source::Worker(id.to_owned()));
    }
    if let Some(owner) = rest.strip_prefix("fleet.").and_then(|rest| rest.strip_suffix(".workers")) {
        let (kind, id) = owner.split_once('.')?;
        return Owner::parse(&format!("{kind}:{id}")).map(Source::Fleet);
    }
    rest.starts_with("topic.").then_some(Source::Topic)
}

/// `Last-Event-ID` wins over `after`: a browser sends it by itself when it reconnects.
fn position(last_event_id: Option<&str>, after: Option<u64>) -> Result<u64, Refusal> {
    match last_event_id.map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => id.parse().map_err(|_| {
            Refusal::invalid(format!("Last-Event-ID {id:?} is not a sequence number of this stream"))
        }),
        None => Ok(after.unwrap_or(0)),
    }
}

/// What can be read of the stream, if the caller may read it. Another's stream is as unknown as none.
async fn window(tx: &mut Tx, (stream_id, source, caller): &(String, Source, Caller)) -> Result<Window, Stop> {
    match source {
        Source::Run(run_id) => {
            let head = runs::visible_head(tx, *run_id, caller).await?;
            return Ok(Window { oldest_seq: 1, head_seq: head.latest_seq });
        }
        Source::Worker(worker_id) => {
            let worker = workers::get(tx, worker_id).await?;
            let visible = worker.is_some_and(|worker| caller.may_see(Some(&worker.owner)));
            visible.then_some(()).ok_or_else(|| unknown(stream_id))?;
        }
        Source::Fleet(owner) => caller.must_speak_for(owner)?,
        Source::Topic if caller.owner().is_some() => return Err(unknown(stream_id).into()),
        Source::Topic => {}
    }
    let head =
        streams::head(tx, stream_id).await?.unwrap_or(streams::StreamHead { head_seq: 0, oldest_seq: 1 });
    Ok(Window { oldest_seq: head.oldest_seq, head_seq: head.head_seq })
}

/// A reader that has been sent everything up to `after`.
struct Following {
    store: Store,
    hub: Arc<Hub>,
    draining: Arc<dyn Fn() -> bool + Send + Sync>,
    stream_id: String,
    source: Source,
    follower: Follower,
    after: u64,
    until: Option<u64>,
    greeted: bool,
    /// The last look saw everything there was: the next one is for a wake.
    waiting: bool,
}

/// The next chunk for the reader: events if there are any, a comment if there are none for a while.
async fn next(mut following: Following) -> Result<Option<(Bytes, Following)>, Fault> {
    if !following.greeted {
        // The head of the answer must not wait for the first event.
        following.greeted = true;
        return Ok(Some((Bytes::from_static(b": following\n\n"), following)));
    }
    let mut waited = Duration::ZERO;
    loop {
        if (following.draining)() || following.until.is_some_and(|until| following.after >= until) {
            return Ok(None);
        }
        if !following.waiting {
            // Whatever is committed from here on wakes us, also while we read.
            following.follower.head.mark_unchanged();
            let page = read(&following).await?;
            following.waiting = (page.len() as u64) < PAGE;
            if let Some(last) = page.last() {
                following.after = last.seq;
                return Ok(Some((chunk(&page)?, following)));
            }
        }
        // Looked at without a wake too: one of another replica may get lost, or there is nobody to bring it.
        let patience = following.hub.patience().min(HEARTBEAT.saturating_sub(waited));
        let woken = tokio::time::timeout(patience, following.follower.head.changed()).await.is_ok();
        waited = if woken { waited } else { waited + patience };
        following.waiting = false;
        if waited >= HEARTBEAT {
            return Ok(Some((Bytes::from_static(b": heartbeat\n\n"), following)));
        }
    }
}

async fn read(following: &Following) -> Result<Vec<Message>, Fault> {
    let limit = following.until.map_or(PAGE, |until| until.saturating_sub(following.after).min(PAGE));
    let ask = (following.stream_id.clone(), following.source.clone(), following.after, limit);
    following.store.read("streams.follow", ask, page).await.map_err(|stop| match stop {
        Stop::Fault(fault) => fault,
        Stop::Refusal(refusal) => Fault::msg(refusal.to_string()),
    })
}

async fn page(
    tx: &mut Tx,
    (stream_id, source, after, limit): &(String, Source, u64, u64),
) -> Result<Vec<Message>, Stop> {
    if let Source::Run(run_id) = source {
        let Some(head) = run_table::head(tx, *run_id).await? else { return Ok(Vec::new()) };
        let events = run_table::events_after(tx, &head, *after, *limit).await?;
        let topic = projection::run_topic(*run_id);
        let message = |event: oa_contract::wire::runs::RunEvent| Message {
            seq: event.seq,
            topic: topic.clone(),
            kind: event.event_type,
            published_at: event.recorded_at,
            payload: event.payload,
        };
        return Ok(events.into_iter().map(message).collect());
    }
    let head = streams::head(tx, stream_id).await?.unwrap_or_default();
    // A reader so slow that retention overtook it is cut off rather than served with a hole.
    if head.oldest_seq > after + 1 {
        return Err(Fault::msg(format!("a reader of {stream_id} fell behind what is kept")).into());
    }
    let events = streams::after(tx, stream_id, *after, *limit).await?;
    let message = |event: streams::StreamEvent| Message {
        seq: event.seq,
        topic: event.topic,
        kind: event.kind,
        published_at: event.published_at,
        payload: event.payload,
    };
    Ok(events.into_iter().map(message).collect())
}

/// `id:`, `event:` and `data:` of each message. A kind is free text, so nothing in it may end its line.
fn chunk(messages: &[Message]) -> Result<Bytes, Fault> {
    let mut out = String::new();
    for message in messages {
        let envelope = Envelope {
            topic: &message.topic,
            sequence: message.seq,
            kind: &message.kind,
            published_at: message.published_at.offset(),
            payload: &message.payload,
        };
        let data = serde_json::to_string(&envelope)
            .map_err(|error| Fault::new("writing a stream message", error))?;
        let kind = message.kind.replace(['\r', '\n'], " ");
        let _ = write!(out, "id: {}\nevent: {kind}\ndata: {data}\n\n", message.seq);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_ids_are_read_back_and_strange_ones_are_unknown() {
        let run = "runtime.run.019503c1-8a6e-7f10-9c55-2b7f0c1d4e90.events";
        assert!(matches!(source(run), Some(Source::Run(_))));
        assert_eq!(source("runtime.worker.desktop:w1.lifecycle"), Some(Source::Worker("desktop:w1".into())));
        assert_eq!(source("runtime.fleet.user.7.workers"), Some(Source::Fleet(Owner::User(7))));
        assert_eq!(
            source("runtime.fleet.guest.a.b.workers"),
            Some(Source::Fleet(Owner::Guest("a.b".into())))
        );
        assert_eq!(source("runtime.topic.fraud.incidents"), Some(Source::Topic));
        for strange in ["", "runtime.", "runtime.run.x.events", "runtime.fleet.user.x.workers", "run.1"] {
            assert_eq!(source(strange), None, "{strange}");
        }
    }

    #[test]
    fn the_last_event_id_wins_over_the_query() {
        assert_eq!(position(Some("7"), Some(3)), Ok(7));
        assert_eq!(position(None, Some(3)), Ok(3));
        assert!(position(Some("x"), None).is_err());
    }

    #[test]
    fn a_kind_cannot_break_out_of_its_line() {
        let payload = RawValue::from_string(r#"{"a":"x\ny"}"#.into()).expect("json");
        let message = Message {
            seq: 1,
            topic: "t".into(),
            kind: "a\nid: 9".into(),
            published_at: Timestamp::EPOCH,
            payload,
        };
        let text = String::from_utf8(chunk(&[message]).expect("chunk").to_vec()).expect("text");
        assert_eq!(text.lines().filter(|line| line.starts_with("id:")).count(), 1);
        assert!(text.ends_with("\n\n"));
    }
}

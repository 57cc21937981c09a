//! Decides what the reader of a turn that really runs is sent: chunks as the worker's feed grows, a comment when nothing
//! was said for a while, and always an end. A reader that leaves stops the following and nothing else.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use oa_contract::{Clock, Fault, Refusal, Stop, Timestamp, User, wire::codex::CodexEvent};
use oa_store::{Store, Tx, tables::codex as rows};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    conduct::Conductor,
    frames::{DONE, sse},
};
use crate::{
    Control,
    codex::{
        stream::{Place, is_good},
        stream_of,
    },
    hub::Follower,
};

/// Events in one read.
const PAGE: u32 = 64;
/// Looked at without a wake at least so often: another replica's commit does not wake us.
const POLL: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// No turn is followed for longer; it goes on without its reader.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// A credential that ended ends the stream after at most so long.
const RECHECK_MS: i64 = 15_000;

/// A reader who has been sent everything up to `after`.
pub struct Following {
    store: Store,
    clock: Arc<dyn Clock>,
    draining: Arc<dyn Fn() -> bool + Send + Sync>,
    user: User,
    worker_id: String,
    after: u64,
    follower: Follower,
    /// One of the feeds that the user may follow at once, given back with the stream.
    _place: Place,
    conductor: Conductor,
    unsent: VecDeque<Bytes>,
    until: Instant,
    checked_at: Timestamp,
    ended: bool,
}

impl Following {
    /// Follows the feed of a worker from behind `after`; to be called before the request is placed.
    pub fn new(
        control: &Control,
        user: User,
        worker_id: &str,
        after: u64,
        conductor: Conductor,
    ) -> Result<Self, Refusal> {
        let mut following = Following {
            _place: control.places.take(&user.user_id)?,
            follower: control.hub.follow(&stream_of(worker_id)),
            store: control.store.clone(),
            clock: control.clock.clone(),
            draining: control.draining.clone(),
            user,
            worker_id: worker_id.to_owned(),
            after,
            conductor,
            unsent: VecDeque::new(),
            until: Instant::now() + PATIENCE,
            checked_at: control.clock.now(),
            ended: false,
        };
        let opening = following.conductor.open();
        following.send(opening);
        Ok(following)
    }

    fn send(&mut self, chunks: Vec<Value>) {
        self.unsent.extend(chunks.iter().map(sse));
        if self.conductor.is_finished() && !self.ended {
            self.ended = true;
            self.unsent.push_back(DONE);
        }
    }

    fn end_early(&mut self, code: &str, why: &str) {
        let chunks = self.conductor.cut_off(code, why);
        self.send(chunks);
    }

    /// Why following must end though the turn has not.
    async fn cut_off(&mut self) -> Result<Option<(&'static str, &'static str)>, Stop> {
        if (self.draining)() {
            return Ok(Some(("service_unavailable", "the service is about to end; the turn goes on")));
        }
        if Instant::now() >= self.until {
            return Ok(Some(("timeout", "the turn takes longer than it is followed; it goes on")));
        }
        let now = self.clock.now();
        if now.millis_since(self.checked_at) >= RECHECK_MS {
            self.checked_at = now;
            if !self.store.read("chat.recheck", (self.user.clone(), now), is_good).await? {
                return Ok(Some(("unauthorized", "the session has ended; the turn goes on")));
            }
        }
        Ok(None)
    }
}

/// The next bytes for the reader.
pub async fn next(following: Following) -> Result<Option<(Bytes, Following)>, Fault> {
    step(following).await.map_err(|stop| match stop {
        Stop::Fault(fault) => fault,
        Stop::Refusal(refusal) => Fault::msg(refusal.to_string()),
    })
}

async fn step(mut following: Following) -> Result<Option<(Bytes, Following)>, Stop> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(bytes) = following.unsent.pop_front() {
            return Ok(Some((bytes, following)));
        }
        if following.ended {
            return Ok(None);
        }
        following.follower.mark_unchanged();
        let look = (following.worker_id.clone(), following.user.user_id.clone(), following.after);
        match following.store.read("chat.follow", look, page).await? {
            None => following.end_early("stale_cursor", "events of this turn are no longer kept"),
            Some(events) if events.is_empty() => match following.cut_off().await? {
                Some((code, message)) => following.end_early(code, message),
                None => {
                    let woken = timeout(POLL, following.follower.changed()).await.is_ok();
                    waited = if woken { waited } else { waited + POLL };
                    if waited >= KEEP_ALIVE {
                        return Ok(Some((Bytes::from_static(b": keep-alive\n\n"), following)));
                    }
                }
            },
            Some(events) => {
                for event in &events {
                    following.after = event.seq;
                    let chunks = following.conductor.event(event);
                    following.send(chunks);
                }
            }
        }
    }
}

/// None when the worker is not the user's any more, or events were forgotten before they were read.
async fn page(
    tx: &mut Tx,
    (worker_id, user_id, after): &(String, String, u64),
) -> Result<Option<Vec<CodexEvent>>, Stop> {
    let worker = rows::worker(tx, worker_id).await?.filter(|worker| worker.user_id == *user_id);
    match worker.filter(|worker| worker.oldest_seq <= after + 1) {
        None => Ok(None),
        Some(worker) if worker.latest_seq <= *after => Ok(Some(Vec::new())),
        Some(_) => rows::events_after(tx, worker_id, *after, PAGE).await.map(Some),
    }
}

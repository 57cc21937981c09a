//! Decides what somebody who follows a feed is sent: every event after their position, once, in order, then more as it is
//! committed. The reader pulls; a slow one slows nobody. The stream ends with the credential, with the process, and
//! where retention overtook the reader, who is then told so when it comes back.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use oa_contract::{
    Clock, Credential, Fault, Stop, Timestamp, User,
    wire::codex::{CodexEvent, IN_MEMORY},
};
use oa_store::{
    Store, Tx,
    tables::{
        codex::{self as rows, Worker},
        identity::{self, SessionStatus},
    },
};
use tokio::time::timeout;

use super::places::Place;
use crate::{Control, codex::TOUCH_EVERY_MS, hub::Follower};

/// Events in one read: a page of the largest payloads still fits into memory many times.
const PAGE: u32 = 16;
/// A comment is sent when nothing else was for so long, so that proxies and readers know that the line lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A credential that ended ends the stream after at most so long.
const RECHECK_MS: i64 = 15_000;

/// Who reads, and when that was last written down.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    Viewer,
    Worker { noted: Option<Timestamp> },
}

impl Presence {
    /// Notes that the worker is at its feed, at most every so often.
    pub async fn note(&mut self, control: &Control, worker: &Worker) -> Result<(), Stop> {
        if worker.adapter == IN_MEMORY {
            return Ok(());
        }
        self.note_at(&control.store, &worker.worker_id, worker.feed_seen_at, control.clock.now()).await
    }

    async fn note_at(
        &mut self,
        store: &Store,
        worker_id: &str,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let Presence::Worker { noted } = self else { return Ok(()) };
        let stale = now.plus_millis(-TOUCH_EVERY_MS);
        let last = (*noted).max(seen);
        if last.is_none_or(|last| last <= stale) {
            store.write("codex.touch", (), (worker_id.to_owned(), now, stale), touch).await?;
            *noted = Some(now);
        }
        Ok(())
    }
}

async fn touch(tx: &mut Tx, (id, now, stale): &(String, Timestamp, Timestamp)) -> Result<(), Stop> {
    rows::touch(tx, id, *now, *stale).await
}

/// A reader that has been sent everything up to `after`.
pub struct Following {
    store: Store,
    clock: Arc<dyn Clock>,
    draining: Arc<dyn Fn() -> bool + Send + Sync>,
    user: User,
    worker_id: String,
    after: u64,
    follower: Follower,
    presence: Presence,
    checked_at: Timestamp,
    greeted: bool,
    _place: Place,
}

impl Following {
    pub fn new(
        control: &Control,
        user: User,
        worker_id: String,
        after: u64,
        follower: Follower,
        presence: Presence,
        place: Place,
    ) -> Self {
        Following {
            store: control.store.clone(),
            clock: control.clock.clone(),
            draining: control.draining.clone(),
            user,
            worker_id,
            after,
            follower,
            presence,
            checked_at: control.clock.now(),
            greeted: false,
            _place: place,
        }
    }

    /// Whether the credential that opened the stream is still good, looked up every so often.
    async fn may_go_on(&mut self) -> Result<bool, Stop> {
        let now = self.clock.now();
        if now.millis_since(self.checked_at) < RECHECK_MS {
            return Ok(true);
        }
        self.checked_at = now;
        self.store.read("codex.recheck", (self.user.clone(), now), is_good).await
    }
}

pub(crate) async fn is_good(tx: &mut Tx, (user, now): &(User, Timestamp)) -> Result<bool, Stop> {
    match user.credential {
        Credential::Session => {
            let session = identity::session(tx, &user.session_id).await?;
            Ok(session.is_some_and(|session| {
                session.status == SessionStatus::Active && *now < session.access_expires_at
            }))
        }
        Credential::PersonalToken => {
            let token_id = user.session_id.strip_prefix("pat:").unwrap_or_default();
            let token = identity::token(tx, token_id).await?;
            Ok(token.is_some_and(|token| crate::identity::is_good(&token, *now)))
        }
    }
}

/// The next chunk for the reader: events if there are any, a comment if there are none for a while.
pub async fn next(following: Following) -> Result<Option<(Bytes, Following)>, Fault> {
    step(following).await.map_err(|stop| match stop {
        Stop::Fault(fault) => fault,
        Stop::Refusal(refusal) => Fault::msg(refusal.to_string()),
    })
}

async fn step(mut following: Following) -> Result<Option<(Bytes, Following)>, Stop> {
    if !following.greeted {
        // The head of the answer must not wait for the first event.
        following.greeted = true;
        return Ok(Some((Bytes::from_static(b": following\n\n"), following)));
    }
    let mut waited = Duration::ZERO;
    loop {
        if (following.draining)() || !following.may_go_on().await? {
            return Ok(None);
        }
        following.follower.mark_unchanged();
        let look = (following.worker_id.clone(), following.user.user_id.clone(), following.after);
        let Some(seen) = following.store.read("codex.follow_page", look, page).await? else {
            return Ok(None);
        };
        if seen.adapter != IN_MEMORY {
            let now = following.clock.now();
            let (store, id) = (following.store.clone(), following.worker_id.clone());
            following.presence.note_at(&store, &id, seen.feed_seen_at, now).await?;
        }
        if let Some(last) = seen.events.last() {
            following.after = last.seq;
            return Ok(Some((chunk(&seen.events)?, following)));
        }
        let woken = timeout(super::POLL, following.follower.changed()).await.is_ok();
        waited = if woken { waited } else { waited + super::POLL };
        if waited >= KEEP_ALIVE {
            return Ok(Some((Bytes::from_static(b": keep-alive\n\n"), following)));
        }
    }
}

struct Page {
    events: Vec<CodexEvent>,
    adapter: String,
    feed_seen_at: Option<Timestamp>,
}

/// None when the reader may not go on: the worker is not theirs any more, or events were forgotten before they were sent.
async fn page(
    tx: &mut Tx,
    (worker_id, user_id, after): &(String, String, u64),
) -> Result<Option<Page>, Stop> {
    let worker = rows::worker(tx, worker_id).await?.filter(|worker| worker.user_id == *user_id);
    let Some(worker) = worker.filter(|worker| worker.oldest_seq <= after + 1) else { return Ok(None) };
    let events = match worker.latest_seq > *after {
        true => rows::events_after(tx, worker_id, *after, PAGE).await?,
        false => Vec::new(),
    };
    Ok(Some(Page { events, adapter: worker.adapter, feed_seen_at: worker.feed_seen_at }))
}

/// `id:`, `event:` and `data:` of each event. A type is free text, so nothing in it may end its line.
fn chunk(events: &[CodexEvent]) -> Result<Bytes, Fault> {
    let mut out = String::new();
    for event in events {
        let data = serde_json::to_string(event).map_err(|error| Fault::new("writing an event", error))?;
        let kind = event.event_type.replace(['\r', '\n'], " ");
        let _ = write!(out, "id: {}\nevent: {kind}\ndata: {data}\n\n", event.seq);
    }
    Ok(out.into())
}

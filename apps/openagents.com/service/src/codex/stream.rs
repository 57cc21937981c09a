//! Decides what a reader of a worker's feed gets: a page at once, a page as soon as there is something in it, or
//! server-sent events for as long as it listens (control §14.3, §21.3.2). Whoever reads as the worker is the worker at
//! its feed.

mod follow;
mod places;

use std::time::Duration;

use futures_util::stream;
use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop, Streamed, User,
    matrix::CodexStream,
    operation::{Data, JsonOr},
    wire::codex::{CodexEvent, CodexFeed, CodexFeedReply, FeedDelivery, FollowCodexWorker},
};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Worker},
};
use tokio::time::{Instant, timeout};

use super::{owned, snapshot, stream_of, worker_id};
use crate::{Control, hub::Follower, identity::signed_in, threads};
use follow::Presence;
pub(crate) use follow::is_good;
pub(crate) use places::{Place, Places};

/// Looked at without a wake at least so often: another replica's commit does not wake us.
const POLL: Duration = Duration::from_millis(500);
/// A request is given up by the edge after a minute, so that no wait lasts longer than this.
const WAIT_MAX: Duration = Duration::from_secs(50);
const PAGE_MAX: u32 = 1_000;

impl Handle<CodexStream> for Control {
    async fn handle(&self, ask: Ask<CodexStream>) -> Result<Answer<CodexFeedReply>, Stop> {
        let user = signed_in(&ask.caller)?.clone();
        let worker_id = worker_id(&ask.path.worker_id)?;
        let wanted = Wanted::read(&ask.query, &user, |name| ask.meta.header(name))?;
        let look = Look { user, worker_id, after: wanted.after, limit: wanted.limit };
        match wanted.way {
            Way::Events => self.events(look, wanted.presence).await,
            Way::Page => self.page(look, &wanted, Duration::ZERO).await,
            Way::Wait => {
                let patience = Duration::from_millis(wanted.tail_ms).min(WAIT_MAX);
                self.page(look, &wanted, patience).await
            }
        }
    }
}

impl Control {
    /// A page, waited for as long as it is empty and there is patience.
    async fn page(
        &self,
        look: Look,
        wanted: &Wanted,
        patience: Duration,
    ) -> Result<Answer<CodexFeedReply>, Stop> {
        let _place = (!patience.is_zero()).then(|| self.places.take(&look.user.user_id)).transpose()?;
        let until = Instant::now() + patience;
        let mut follower = self.hub.follow(&stream_of(&look.worker_id));
        let mut presence = wanted.presence;
        let seen = loop {
            follower.mark_unchanged();
            let seen = self.store.read("codex.page", look.clone(), read).await?;
            presence.note(self, &seen.worker).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !seen.events.is_empty() || left.is_zero() || (self.draining)() {
                break seen;
            }
            let _ = timeout(left.min(POLL), follower.changed()).await;
        };
        Ok(Answer::new(JsonOr::Json(Data { data: self.feed(seen, wanted) })))
    }

    fn feed(&self, seen: Seen, wanted: &Wanted) -> CodexFeed {
        let Seen { worker, org_id, after, events } = seen;
        let last = events.last().map_or(after, |event| event.seq);
        CodexFeed {
            worker_id: worker.worker_id.clone(),
            stream_protocol: "spacetime_ws".into(),
            cursor: after,
            tail_ms: wanted.tail_ms,
            delivery: FeedDelivery {
                transport: "spacetime_ws".into(),
                topic: format!("{}:worker_events", topic_org(&org_id)),
                scope: "runtime.codex_worker_events".into(),
                sync_token_route: "/api/spacetime/token".into(),
            },
            snapshot: snapshot(&worker, self.clock.now()),
            next: Some(last).filter(|last| *last < worker.latest_seq && !events.is_empty()),
            events,
        }
    }

    async fn events(&self, look: Look, mut presence: Presence) -> Result<Answer<CodexFeedReply>, Stop> {
        let follower: Follower = self.hub.follow(&stream_of(&look.worker_id));
        let user = look.user.clone();
        let place = self.places.take(&user.user_id)?;
        let seen = self.store.read("codex.follow", Look { limit: 1, ..look }, read).await?;
        presence.note(self, &seen.worker).await?;
        let following =
            follow::Following::new(self, user, seen.worker.worker_id, seen.after, follower, presence, place);
        let chunks = Streamed::new(stream::try_unfold(following, follow::next));
        Ok(Answer::new(JsonOr::Streamed(chunks))
            .with_header("cache-control", "no-store")
            .with_header("x-accel-buffering", "no"))
    }
}

/// The organisation as topics name it (control §7).
fn topic_org(org_id: &str) -> String {
    match org_id.starts_with("org:") {
        true => org_id.to_owned(),
        false => format!("org:{org_id}"),
    }
}

/// How the reader wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Page,
    Wait,
    Events,
}

struct Wanted {
    way: Way,
    /// None is from the oldest event that is kept.
    after: Option<u64>,
    limit: u32,
    tail_ms: u64,
    presence: Presence,
}

impl Wanted {
    fn read<'a>(
        query: &FollowCodexWorker,
        user: &User,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, Refusal> {
        let tail_ms = query.tail_ms.unwrap_or(15_000);
        if !(1..=120_000).contains(&tail_ms) {
            return Err(Refusal::field("tail_ms", "tail_ms must be 1 to 120000"));
        }
        let limit = query.limit.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Refusal::field("limit", format!("limit must be 1 to {PAGE_MAX}")));
        }
        let way = way(query.wait.as_deref(), header("accept"), header("prefer"))?;
        let last_event_id = header("last-event-id").filter(|_| way == Way::Events);
        Ok(Wanted {
            way,
            after: after(last_event_id, query.cursor)?,
            limit,
            tail_ms,
            presence: presence(query.consumer.as_deref(), user)?,
        })
    }
}

fn way(wait: Option<&str>, accept: Option<&str>, prefer: Option<&str>) -> Result<Way, Refusal> {
    let named = |header: Option<&str>, name: &str| {
        header.unwrap_or_default().split([',', ';', '=']).any(|one| one.trim().eq_ignore_ascii_case(name))
    };
    let wait = match wait.map(str::trim) {
        None | Some("" | "0" | "false") => named(prefer, "wait"),
        Some("1" | "true") => true,
        Some(_) => return Err(Refusal::field("wait", "wait must be 1 or 0")),
    };
    Ok(match named(accept, "text/event-stream") {
        true => Way::Events,
        false if wait => Way::Wait,
        false => Way::Page,
    })
}

/// `Last-Event-ID` wins over the cursor: a browser sends it by itself when it reconnects.
fn after(last_event_id: Option<&str>, cursor: Option<u64>) -> Result<Option<u64>, Refusal> {
    let bounded = |seq: u64| seq.min(i64::MAX.unsigned_abs());
    match last_event_id.map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => match id.parse::<u64>() {
            Ok(seq) => Ok(Some(bounded(seq))),
            Err(_) => {
                let message = format!("Last-Event-ID {id:?} is not a number of this feed");
                Err(Refusal::invalid(message).with_status(400))
            }
        },
        None => Ok(cursor.map(bounded)),
    }
}

/// Being the worker is an act: it changes where requests go.
fn presence(consumer: Option<&str>, user: &User) -> Result<Presence, Refusal> {
    match consumer.map(str::trim) {
        None | Some("" | "viewer") => Ok(Presence::Viewer),
        Some("worker") if user.may("runtime.write") => Ok(Presence::Worker { noted: None }),
        Some("worker") => Err(Refusal::forbidden(
            "this token does not carry the ability `runtime.write`, which consumer=worker needs",
        )),
        Some(_) => Err(Refusal::field("consumer", "consumer must be worker or viewer")),
    }
}

#[derive(Clone)]
struct Look {
    user: User,
    worker_id: String,
    after: Option<u64>,
    limit: u32,
}

struct Seen {
    worker: Worker,
    org_id: String,
    after: u64,
    events: Vec<CodexEvent>,
}

async fn read(tx: &mut Tx, look: &Look) -> Result<Seen, Stop> {
    let worker = owned(tx, &look.worker_id, &look.user.user_id).await?;
    let after = position(look.after, &worker)?;
    let org_id = threads::active_org(tx, &look.user).await?;
    let events = rows::events_after(tx, &worker.worker_id, after, look.limit).await?;
    Ok(Seen { worker, org_id, after, events })
}

/// Where the reader goes on; refused if that would leave a gap.
fn position(after: Option<u64>, worker: &Worker) -> Result<u64, Refusal> {
    let floor = worker.oldest_seq.saturating_sub(1);
    match after {
        None => Ok(floor),
        Some(after) if after >= floor => Ok(after),
        Some(_) => {
            let message =
                format!("events up to {floor} are no longer kept: take the snapshot and follow from {floor}");
            Err(Refusal {
                resume_after: Some(floor),
                reason_code: Some("retention_floor_breach"),
                ..Refusal::new(Code::StaleCursor, message)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Credential, Timestamp};

    use super::*;
    use crate::codex::fresh;

    #[test]
    fn a_reader_gets_a_page_a_wait_or_events() {
        assert_eq!(way(None, None, None), Ok(Way::Page));
        assert_eq!(way(Some("1"), Some("*/*"), None), Ok(Way::Wait));
        assert_eq!(way(None, None, Some("respond-async, wait=10")), Ok(Way::Wait));
        assert_eq!(way(Some("1"), Some("application/json, text/event-stream;q=0.9"), None), Ok(Way::Events));
        assert_eq!(way(Some("soon"), None, None).expect_err("refused").field.as_deref(), Some("wait"));
    }

    #[test]
    fn the_last_event_id_wins_over_the_cursor() {
        assert_eq!(after(Some(" 7 "), Some(3)), Ok(Some(7)));
        assert_eq!(after(None, Some(3)), Ok(Some(3)));
        assert_eq!(after(None, Some(u64::MAX)), Ok(Some(i64::MAX.unsigned_abs())));
        assert!(after(Some("x"), None).is_err());
    }

    #[test]
    fn only_who_may_write_reads_as_the_worker() {
        let user = |abilities: &[&str]| User {
            user_id: "u".into(),
            email: "u@x".into(),
            owner_user_id: 1,
            session_id: "pat:1".into(),
            active_org_id: "user:u".into(),
            admin: false,
            credential: Credential::PersonalToken,
            abilities: abilities.iter().map(|one| (*one).to_owned()).collect(),
        };
        let (reader, writer) = (user(&["runtime.read"]), user(&["runtime.write"]));
        assert!(matches!(presence(Some("worker"), &writer), Ok(Presence::Worker { .. })));
        assert_eq!(presence(Some("worker"), &reader).expect_err("refused").code, Code::Forbidden);
        assert!(matches!(presence(None, &reader), Ok(Presence::Viewer)));
        assert!(presence(Some("spy"), &writer).is_err());
    }

    #[test]
    fn a_position_below_what_is_kept_says_where_to_go_on() {
        let worker = Worker { oldest_seq: 11, latest_seq: 20, ..fresh("w", "u", Timestamp::EPOCH) };
        assert_eq!(position(None, &worker), Ok(10));
        assert_eq!(position(Some(10), &worker), Ok(10));
        assert_eq!(position(Some(99), &worker), Ok(99));
        assert_eq!(position(Some(9), &worker).expect_err("stale").resume_after, Some(10));
    }
}

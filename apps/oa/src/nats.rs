//! Decides how replicas wake each other over NATS: "this stream has come so far", one subject a stream, so that a
//! replica hears only of what somebody follows there. The store stays the truth. What gets lost, comes twice or in
//! another order costs a look or a few seconds, never an event; without NATS followers look for themselves.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, Request, RequestErrorKind, ServerAddr, ToServerAddrs as _,
    connection::State,
};
use futures_util::StreamExt as _;
use oa_runtime::hub::{Hub, Relay};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{config::Settings, failure::Failure};

/// Streams that wait to be told of; beyond it they are not told. A stream that goes on takes one place however far it
/// comes meanwhile.
const WAITING: usize = 65_536;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(2);
const PING: Duration = Duration::from_secs(5);

/// Where NATS is, if there is one.
pub struct Place {
    servers: Vec<ServerAddr>,
    /// What all subjects begin with.
    subject: String,
}

impl Place {
    /// What the settings say of it.
    pub fn read(settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(urls) = settings.get("RUNTIME_NATS_URL") else { return Ok(None) };
        let wanted = "RUNTIME_NATS_URL: wanted addresses as nats://host:4222 or tls://user:password@host:4222, separated by commas";
        // The error would repeat the address, and the address may hold a password.
        let server = |url: &str| url.trim().parse::<ServerAddr>().map_err(|_| Failure::usage(wanted));
        let servers: Vec<ServerAddr> = urls.split(',').map(server).collect::<Result<_, _>>()?;
        let subject = settings.get("RUNTIME_NATS_SUBJECT").unwrap_or("oa.runtime").to_owned();
        match is_subject(&subject) {
            true => Ok(Some(Place { servers, subject })),
            false => Err(Failure::usage(
                "RUNTIME_NATS_SUBJECT: wanted names of letters, digits, - and _, separated by dots",
            )),
        }
    }
}

fn is_subject(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.len() <= 128 && text.split('.').all(|part| !part.is_empty() && part.chars().all(plain))
}

/// Where wakes of a stream are sent. Ids of workers may hold anything, so what is not a run goes by its hash.
fn subject_of(prefix: &str, stream: &str) -> String {
    let run = stream.strip_prefix("runtime.run.").and_then(|rest| rest.strip_suffix(".events"));
    match run.filter(|id| is_subject(id) && !id.contains('.')) {
        Some(id) => format!("{prefix}.run.{id}"),
        None => {
            let hash = Sha256::digest(stream);
            let short: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{prefix}.stream.{short}")
        }
    }
}

/// What the task that talks to NATS is to bring about: what differs from how things stand, and not how it came to be.
/// However often readers come and go while NATS is away, it holds each of their streams once.
#[derive(Default)]
struct Wishes {
    /// Streams that the task follows, or was told to.
    followed: HashSet<String>,
    /// Streams to follow from now on (`true`), or no longer.
    changes: HashMap<String, bool>,
    /// What became of the connection since the task looked last.
    disconnected: bool,
    connected: bool,
}

impl Wishes {
    fn wish(&mut self, stream: &str, follow: bool) {
        match self.followed.contains(stream) == follow {
            true => self.changes.remove(stream),
            false => self.changes.insert(stream.to_owned(), follow),
        };
    }

    /// Everything that is wished for; it counts as done.
    fn take(&mut self) -> Wishes {
        for (stream, follow) in &self.changes {
            match follow {
                true => self.followed.insert(stream.clone()),
                false => self.followed.remove(stream),
            };
        }
        Wishes {
            followed: HashSet::new(),
            changes: std::mem::take(&mut self.changes),
            disconnected: std::mem::take(&mut self.disconnected),
            connected: std::mem::take(&mut self.connected),
        }
    }
}

/// Wishes, and the bell that says that there are some.
#[derive(Default)]
struct Desk {
    wishes: Mutex<Wishes>,
    bell: Notify,
}

impl Desk {
    fn change<T>(&self, change: impl FnOnce(&mut Wishes) -> T) -> T {
        change(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, change: impl FnOnce(&mut Wishes)) {
        self.change(change);
        self.bell.notify_one();
    }
}

/// The way to the other replicas.
pub struct Nats {
    connected: Arc<AtomicBool>,
    /// How far streams have come that nobody has told of yet.
    waiting: Mutex<HashMap<String, u64>>,
    bell: Notify,
    desk: Arc<Desk>,
}

impl Relay for Nats {
    fn tell(&self, stream: &str, seq: u64) {
        if !self.connected.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = waiting.get_mut(stream) {
            *known = seq.max(*known);
        } else if waiting.len() < WAITING {
            waiting.insert(stream.to_owned(), seq);
            self.bell.notify_one();
        }
    }

    fn follow(&self, stream: &str) {
        self.desk.ask(|wishes| wishes.wish(stream, true));
    }

    fn leave(&self, stream: &str) {
        self.desk.ask(|wishes| wishes.wish(stream, false));
    }

    fn trouble(&self) -> Option<String> {
        let away = !self.connected.load(Ordering::Acquire);
        away.then(|| {
            "NATS cannot be reached: events of other replicas arrive up to half a second late".to_owned()
        })
    }
}

/// Has the hub's wakes carried from now on. NATS need not be there yet, and may come and go.
pub async fn connect(place: Place, hub: &Arc<Hub>) -> Result<(), Failure> {
    let desk = Arc::new(Desk::default());
    let connected = Arc::new(AtomicBool::new(false));
    let (events, alive) = (desk.clone(), connected.clone());
    let options = ConnectOptions::new()
        .name("oa runtime")
        .retry_on_initial_connect()
        // What this process commits has woken its own followers already.
        .no_echo()
        .ping_interval(PING)
        .connection_timeout(PING)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            let (events, alive) = (events.clone(), alive.clone());
            async move {
                match event {
                    Event::Connected => events.ask(|wishes| wishes.connected = true),
                    Event::Disconnected => {
                        alive.store(false, Ordering::Release);
                        events.ask(|wishes| (wishes.disconnected, wishes.connected) = (true, false));
                    }
                    Event::ClientError(error) => tracing::debug!(%error, "NATS"),
                    Event::ServerError(error) => tracing::warn!(%error, "NATS said that something is wrong"),
                    _ => {}
                }
            }
        });
    let servers: Vec<ServerAddr> = place.servers.to_server_addrs().map(Iterator::collect).unwrap_or_default();
    let client = options
        .connect(servers)
        .await
        .map_err(|error| Failure::wrong(format!("NATS cannot be used: {error}")))?;
    let nats = Arc::new(Nats { connected, waiting: Mutex::default(), bell: Notify::new(), desk });
    hub.relay_through(nats.clone());
    tokio::spawn(tell_all(client.clone(), nats.clone(), place.subject.clone()));
    let listener =
        Listener { client, prefix: place.subject, hub: hub.clone(), nats, followed: HashMap::new() };
    tokio::spawn(listener.run());
    Ok(())
}

/// Longer after every attempt that failed.
fn pause(attempts: usize) -> Duration {
    let millis = 50_u64.saturating_mul(1 << attempts.min(10));
    Duration::from_millis(millis).min(LONGEST_PAUSE)
}

/// Tells whatever waits, as long as there is somebody to tell.
async fn tell_all(client: Client, nats: Arc<Nats>, prefix: String) {
    loop {
        nats.bell.notified().await;
        let waiting = std::mem::take(&mut *nats.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (stream, seq) in waiting {
            if !nats.connected.load(Ordering::Acquire) {
                break;
            }
            let said = client.publish(subject_of(&prefix, &stream), seq.to_string().into()).await;
            if let Err(error) = said {
                tracing::debug!(%error, "a wake was not told");
            }
        }
    }
}

/// Hears what is followed here.
struct Listener {
    client: Client,
    prefix: String,
    hub: Arc<Hub>,
    nats: Arc<Nats>,
    followed: HashMap<String, AbortHandle>,
}

impl Listener {
    async fn run(mut self) {
        loop {
            self.nats.desk.bell.notified().await;
            // Many at once, so that they share one journey.
            let wished = self.nats.desk.change(Wishes::take);
            if wished.disconnected {
                self.nats.connected.store(false, Ordering::Release);
                tracing::warn!("NATS went away: followers look for themselves");
                self.hub.everybody_looks_again();
            }
            let reconnected = wished.connected;
            let mut fresh = Vec::new();
            for (stream, follow) in wished.changes {
                match follow {
                    true => fresh.extend(self.follow(stream).await),
                    false => {
                        if let Some(hearing) = self.followed.remove(&stream) {
                            hearing.abort();
                        }
                    }
                }
            }
            if !reconnected && fresh.is_empty() {
                continue;
            }
            self.settled().await;
            // What is committed from now on is heard of, and what was committed until now is looked for.
            if reconnected && self.client.connection_state() == State::Connected {
                self.nats.connected.store(true, Ordering::Release);
                tracing::info!("NATS carries wakes between replicas");
                self.hub.everybody_looks_again();
            }
            fresh.iter().for_each(|stream| self.hub.look_again(stream));
        }
    }

    /// Waits until the server has every subscription that was asked for: it answers in order, and says at once that
    /// nobody hears this question. Where it may not be asked, followers may miss one wake, and look by themselves.
    async fn settled(&self) {
        let question = Request::new().timeout(Some(ANSWER));
        if let Err(error) = self.client.send_request(format!("{}.settled", self.prefix), question).await
            && error.kind() != RequestErrorKind::NoResponders
        {
            tracing::debug!(%error, "NATS did not say whether subscriptions stand");
        }
    }

    async fn follow(&mut self, stream: String) -> Option<String> {
        let mut heard = match self.client.subscribe(subject_of(&self.prefix, &stream)).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(%error, "a stream cannot be followed through NATS; it is looked at twice a second");
                self.nats.desk.change(|wishes| wishes.followed.remove(&stream));
                return None;
            }
        };
        let (hub, name) = (self.hub.clone(), stream.clone());
        let hearing = tokio::spawn(async move {
            while let Some(message) = heard.next().await {
                let seq = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok());
                match seq {
                    Some(seq) => hub.heard(&name, seq),
                    None => hub.look_again(&name),
                }
            }
        });
        if let Some(before) = self.followed.insert(stream.clone(), hearing.abort_handle()) {
            before.abort();
        }
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_a_subject_that_nats_takes() {
        let run = "runtime.run.019503c1-8a6e-7f10-9c55-2b7f0c1d4e90.events";
        assert_eq!(subject_of("oa", run), "oa.run.019503c1-8a6e-7f10-9c55-2b7f0c1d4e90");
        for odd in ["runtime.worker.a b.>.*.lifecycle", "runtime.run.a.b.events", "runtime.run..events", ""] {
            let subject = subject_of("oa", odd);
            assert!(is_subject(&subject) && subject.starts_with("oa.stream."), "{subject}");
        }
        assert_ne!(subject_of("oa", "a"), subject_of("oa", "b"));
    }

    #[test]
    fn readers_who_come_and_go_while_nats_is_away_leave_nothing_behind() {
        let mut wishes = Wishes::default();
        wishes.wish("stays", true);
        assert_eq!(wishes.take().changes, HashMap::from([("stays".to_owned(), true)]));
        for reader in 0..10_000 {
            let stream = format!("runtime.run.{reader}.events");
            for _ in 0..3 {
                wishes.wish(&stream, true);
                wishes.wish("stays", false);
                wishes.wish(&stream, false);
                wishes.wish("stays", true);
            }
        }
        assert_eq!(
            (wishes.changes.len(), wishes.followed.len()),
            (0, 1),
            "what is followed goes on undisturbed"
        );
        wishes.wish("stays", false);
        wishes.wish("new", true);
        let taken = wishes.take().changes;
        assert_eq!(taken, HashMap::from([("stays".to_owned(), false), ("new".to_owned(), true)]));
        assert!(wishes.take().changes.is_empty());
        wishes.wish("stays", true);
        assert_eq!(wishes.changes.len(), 1, "and can be followed again");
    }

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause(1), Duration::from_millis(100));
        assert_eq!(pause(1_000), LONGEST_PAUSE);
    }
}

//! A SIMULATED Nostr relay: a real web socket, events checked as NIP-01 says, answers as NIP-01 says, and every bad
//! manner a relay may have.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use oa_contract::bridge::Event;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// How a relay behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Kind,
    /// Refuses every event with this reason.
    Refusing(String),
    /// Keeps the event and never says so.
    Mute,
    /// Keeps the event and hangs up instead of saying so.
    HangsUp,
    /// Hangs up on events whose text has this in it, and is kind about others.
    Allergic(String),
    /// Answers every event with much that means nothing, and large things.
    Garbage,
    /// Takes the connection and never greets.
    Stone,
}

#[derive(Default)]
struct State {
    mood: Mood,
    /// Every event that came in, as often as it came in.
    seen: Vec<Event>,
    /// What it would answer to readers.
    kept: HashMap<String, Event>,
    connections: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct SimulatedRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl SimulatedRelay {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let relay = SimulatedRelay { address, shared: Arc::default(), task: Mutex::default() };
        relay.serve(listener);
        relay
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub fn set(&self, mood: Mood) {
        self.shared.lock().mood = mood;
    }

    /// The port is closed and every connection is cut.
    pub fn kill(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Comes back on the same port, with what it had.
    pub async fn revive(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.serve(listener);
    }

    /// Every event that came in, repetitions too.
    pub fn seen(&self) -> Vec<Event> {
        self.shared.lock().seen.clone()
    }

    /// What somebody who reads from it would get.
    pub fn kept(&self) -> Vec<Event> {
        self.shared.lock().kept.values().cloned().collect()
    }

    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Waits until what has come in is as wanted, half a minute at most.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                let seen = self.seen();
                if wanted(&seen) {
                    return seen;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), waiting).await {
            Ok(seen) => seen,
            Err(_) => panic!("the relay did not see {what}: {:#?}", self.seen()),
        }
    }

    /// The names of what came in, each once.
    pub fn ids(&self) -> HashSet<String> {
        self.seen().into_iter().map(|event| event.id).collect()
    }

    fn serve(&self, listener: TcpListener) {
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(converse(socket, shared.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

async fn converse(socket: TcpStream, shared: Arc<Shared>) {
    let stone = {
        let mut state = shared.lock();
        state.connections += 1;
        state.mood == Mood::Stone
    };
    if stone {
        std::future::pending::<()>().await;
    }
    let Ok(mut stream) = accept_async(socket).await else { return };
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let Some(event) = read(text.as_str()) else {
            let _ = stream.send(Message::text(r#"["NOTICE","this is no event"]"#)).await;
            continue;
        };
        let id = event.id.clone();
        let mood = shared.lock().mood.clone();
        let ok = |accepted: bool, why: &str| Message::text(json!(["OK", id, accepted, why]).to_string());
        let answers = match mood {
            _ if !event.is_authentic() => vec![ok(false, "invalid: id or signature")],
            Mood::Refusing(why) => {
                shared.lock().seen.push(event);
                vec![ok(false, &why)]
            }
            Mood::Allergic(to) if text.contains(&to) => {
                shared.lock().seen.push(event);
                shared.changed.notify_waiters();
                return;
            }
            Mood::HangsUp => {
                keep(&shared, event);
                return;
            }
            Mood::Mute => {
                keep(&shared, event);
                Vec::new()
            }
            Mood::Garbage => {
                shared.lock().seen.push(event);
                let mut nonsense: Vec<Message> =
                    ["", "{}", "[]", "[\"OK\"]", "[\"OK\",7,true]", "[\"AUTH\",\"x\"]", "\u{0}"]
                        .into_iter()
                        .map(Message::text)
                        .collect();
                nonsense.push(Message::binary(vec![0xff; 999]));
                nonsense.push(ok(true, "").to_text().map_or_else(
                    |_| Message::text(""),
                    |text| Message::text(text.replace(&id, &"0".repeat(64))),
                ));
                nonsense.push(Message::text("x".repeat(200_000)));
                nonsense
            }
            Mood::Kind | Mood::Stone | Mood::Allergic(_) => vec![match keep(&shared, event) {
                true => ok(true, ""),
                false => ok(true, "duplicate: it is known"),
            }],
        };
        shared.changed.notify_waiters();
        for answer in answers {
            if stream.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Says whether it is new.
fn keep(shared: &Shared, event: Event) -> bool {
    let mut state = shared.lock();
    state.seen.push(event.clone());
    let known = state.kept.get(&event.address());
    let new = known.is_none_or(|known| known.created_at < event.created_at);
    if new {
        state.kept.insert(event.address(), event);
    }
    drop(state);
    shared.changed.notify_waiters();
    new
}

fn read(text: &str) -> Option<Event> {
    let said: Vec<Value> = serde_json::from_str(text).ok()?;
    match said.as_slice() {
        [verb, event] if verb == "EVENT" => Event::read(event).ok(),
        _ => None,
    }
}

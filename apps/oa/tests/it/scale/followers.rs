//! Subscribers that follow a run on whichever replica is there, and go on from where they were.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use serde_json::Value;

use super::{cluster::TOKEN, load::Addresses};

/// What a subscriber was sent.
#[derive(Default)]
pub struct Received {
    /// The key of each event, in the order of arrival; the first is event 1.
    pub keys: Vec<String>,
    /// When each arrived.
    pub at: Vec<Instant>,
    pub connections: u64,
}

/// One subscriber of one run.
pub struct Subscriber {
    pub run: usize,
    pub first: usize,
    /// How far it has come, for whoever waits for it.
    pub position: Arc<AtomicU64>,
    pub task: tokio::task::JoinHandle<Received>,
}

/// Follows until it has seen `until`, which may be set while it runs; 0 is never.
pub fn subscribe(
    to: &Addresses,
    first: usize,
    runs: &Arc<Vec<String>>,
    run: usize,
    until: Arc<AtomicU64>,
) -> Subscriber {
    let (to, runs, position) = (to.clone(), runs.clone(), Arc::new(AtomicU64::new(0)));
    let here = position.clone();
    let task = tokio::spawn(async move {
        let mut received = Received::default();
        let mut replica = first;
        let done = |here: &AtomicU64| {
            let until = until.load(Ordering::SeqCst);
            until > 0 && here.load(Ordering::SeqCst) >= until
        };
        while !done(&here) {
            let url =
                format!("{}/streams/runtime.run.{}.events", to.urls[replica % to.urls.len()], runs[run]);
            let last = here.load(Ordering::SeqCst).to_string();
            let asked = to.client.get(url).bearer_auth(TOKEN).header("last-event-id", last).send();
            match tokio::time::timeout(Duration::from_secs(3), asked).await {
                Ok(Ok(answer)) if answer.status() == 200 => {
                    received.connections += 1;
                    read(answer, &mut received, &here, &done).await;
                }
                Ok(Ok(answer)) => assert!(
                    matches!(answer.status().as_u16(), 500 | 503),
                    "a subscriber was answered {}",
                    answer.status()
                ),
                _ => {}
            }
            replica += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        received
    });
    Subscriber { run, first, position, task }
}

/// Reads one connection until it breaks, or everything was seen.
async fn read(
    answer: reqwest::Response,
    received: &mut Received,
    here: &AtomicU64,
    done: &impl Fn(&AtomicU64) -> bool,
) {
    let mut bytes = answer.bytes_stream();
    let mut text = String::new();
    while !done(here) {
        // The end may be set while nothing more is sent.
        let chunk = match tokio::time::timeout(Duration::from_millis(200), bytes.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(_) => return,
            Err(_) => continue,
        };
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = text.find("\n\n") {
            let message: String = text.drain(..end + 2).collect();
            let line = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
            let Some(id) = line("id: ") else { continue };
            let id: u64 = id.parse().unwrap();
            let before = here.load(Ordering::SeqCst);
            assert_eq!(id, before + 1, "a subscriber that had seen {before} was sent {id}");
            let data: Value = serde_json::from_str(line("data: ").unwrap()).unwrap();
            received.keys.push(data["payload"]["key"].as_str().unwrap_or_default().to_owned());
            received.at.push(Instant::now());
            here.store(id, Ordering::SeqCst);
        }
    }
}

//! Clients that append and read on whichever replica answers, and write down what they were told and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::cluster::TOKEN;

/// Nobody waits longer for one answer; whoever is not answered asks somebody else.
const PATIENCE: Duration = Duration::from_secs(3);

/// All replicas, as a client knows them.
#[derive(Clone)]
pub struct Addresses {
    pub urls: Arc<Vec<String>>,
    pub client: reqwest::Client,
}

impl Addresses {
    pub fn new(urls: Vec<String>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Addresses { urls: Arc::new(urls), client }
    }

    /// One request to one replica; none when there was no answer in time.
    pub async fn ask(&self, replica: usize, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let url = format!("{}{path}", self.urls[replica % self.urls.len()]);
        let request = match body {
            Some(body) => self.client.post(url).json(body).header("prefer", "return=minimal"),
            None => self.client.get(url),
        };
        let answered = async {
            let answer = request.bearer_auth(TOKEN).send().await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.json().await.ok()?))
        };
        tokio::time::timeout(PATIENCE, answered).await.ok().flatten()
    }

    /// Asks one replica after the other until one says yes.
    pub async fn insist(&self, first: usize, path: &str, body: Option<&Value>) -> Value {
        let begun = Instant::now();
        for replica in first.. {
            match self.ask(replica, path, body).await {
                Some((200 | 201, told)) => return told,
                // A time-out, a commit whose end nobody knows, a database that is away: ask again, with the same key.
                None | Some((409 | 429 | 500 | 502 | 503, _)) => {}
                Some((status, told)) => panic!("{path}: {status} {told}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{path}: nobody answers");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        unreachable!("replicas do not run out")
    }
}

/// An append that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acked {
    pub run: usize,
    pub key: String,
    pub seq: u64,
    /// When it was asked for the first time, and when the first answer came.
    pub asked: Instant,
    pub acked: Instant,
}

/// What one client has seen.
#[derive(Default)]
pub struct Seen {
    pub acked: Vec<Acked>,
    /// Requests without an answer, or with one that says nothing about the effect.
    pub unanswered: u64,
    pub reads: u64,
}

/// Appends to runs in turn until told to stop; now and then asks for the same once more, elsewhere, and reads.
pub async fn client(number: usize, to: Addresses, runs: Arc<Vec<String>>, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut heads = vec![0; runs.len()];
    let mut step = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        step += 1;
        let run = (number * 7 + step * 5) % runs.len();
        let key = format!("{number}/{step}");
        let path = format!("/internal/v1/runs/{}/events", runs[run]);
        let body = json!({"event_type": "step", "payload": {"key": key}, "idempotency_key": key});
        let asked = Instant::now();
        let mut replica = number + step;
        let seq = loop {
            match to.ask(replica, &path, Some(&body)).await {
                Some((200, told)) => break told["seq"].as_u64().unwrap(),
                None | Some((500 | 503, _)) => seen.unanswered += 1,
                Some((status, told)) => panic!("{path}: {status} {told}"),
            }
            assert!(asked.elapsed() < Duration::from_secs(90), "{path}: nobody answers");
            replica += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let acked = Instant::now();
        assert!(seq > heads[run], "an append after a read of {} got the place {seq}", heads[run]);
        heads[run] = seq;
        seen.acked.push(Acked { run, key, seq, asked, acked });
        if step.is_multiple_of(8)
            && let Some((200, told)) = to.ask(replica + 1, &path, Some(&body)).await
        {
            assert_eq!(told["seq"], json!(seq), "one key is one event on every replica");
        }
        if step.is_multiple_of(5) {
            let path = format!("/internal/v1/runs/{}?after={}", runs[run], heads[run] - 1);
            if let Some((200, told)) = to.ask(replica + 2, &path, None).await {
                let events = told["run"]["events"].as_array().unwrap();
                let head = events.last().map_or(0, |event| event["seq"].as_u64().unwrap());
                assert!(head >= heads[run], "a read went back from {} to {head}", heads[run]);
                heads[run] = head;
                seen.reads += 1;
            }
        }
    }
    seen
}

//! Clients that append and read on whichever replica answers, and write down what they were told and when.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::cluster::TOKEN;

/// Nobody waits longer for one answer; whoever is not answered asks somebody else.
const PATIENCE: Duration = Duration::from_secs(2);

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
                // A replica hears within a second of providers that enrolled at another.
                Some((404, told)) if told["detail"] == "no eligible provider" => {}
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

/// An append that nobody has acknowledged yet.
struct Open {
    run: usize,
    key: String,
    asked: Instant,
    /// How far the run was known to be when it was asked for.
    behind: u64,
    /// Who is asked next.
    replica: usize,
}

/// What one client has seen.
#[derive(Default)]
pub struct Seen {
    pub acked: Vec<Acked>,
    /// Requests without an answer, or with one that says nothing about the effect.
    pub unanswered: u64,
    pub reads: u64,
}

/// Appends to runs in turn until told to stop; now and then asks for the same once more, elsewhere, and reads. What is
/// not acknowledged is asked for again later, at the next replica, while other runs go on.
pub async fn client(number: usize, to: Addresses, runs: Arc<Vec<String>>, stop: Arc<AtomicBool>) -> Seen {
    let mut client = Client { to, runs, heads: Vec::new(), seen: Seen::default() };
    client.heads.resize(client.runs.len(), 0);
    let mut open = VecDeque::new();
    let mut step = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        step += 1;
        let run = (number * 7 + step * 5) % client.runs.len();
        let new = Open {
            run,
            key: format!("{number}/{step}"),
            asked: Instant::now(),
            behind: client.heads[run],
            replica: number + step,
        };
        open.extend(client.append(new).await);
        if step.is_multiple_of(4)
            && let Some(old) = open.pop_front()
        {
            open.extend(client.append(old).await);
        }
        if step.is_multiple_of(8) {
            client.repeat().await;
        }
        if step.is_multiple_of(5) {
            client.read(run, number + step + 1).await;
        }
    }
    while let Some(old) = open.pop_front() {
        assert!(old.asked.elapsed() < Duration::from_secs(90), "{}: nobody answers", old.key);
        open.extend(client.append(old).await);
    }
    client.seen
}

struct Client {
    to: Addresses,
    runs: Arc<Vec<String>>,
    /// How far each run is known to be.
    heads: Vec<u64>,
    seen: Seen,
}

fn body(key: &str) -> Value {
    json!({"event_type": "step", "payload": {"key": key}, "idempotency_key": key})
}

impl Client {
    fn path(&self, run: usize) -> String {
        format!("/internal/v1/runs/{}/events", self.runs[run])
    }

    /// Asks one replica; gives the append back if nobody knows what became of it.
    async fn append(&mut self, open: Open) -> Option<Open> {
        let path = self.path(open.run);
        match self.to.ask(open.replica, &path, Some(&body(&open.key))).await {
            Some((200, told)) => {
                let seq = told["seq"].as_u64().unwrap();
                assert!(seq > open.behind, "an append after a read of {} got the place {seq}", open.behind);
                let head = &mut self.heads[open.run];
                *head = seq.max(*head);
                let Open { run, key, asked, .. } = open;
                self.seen.acked.push(Acked { run, key, seq, asked, acked: Instant::now() });
                None
            }
            None | Some((500 | 503, _)) => {
                self.seen.unanswered += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some(Open { replica: open.replica + 1, ..open })
            }
            Some((status, told)) => panic!("{path}: {status} {told}"),
        }
    }

    /// The last append once more.
    async fn repeat(&mut self) {
        let Some(last) = self.seen.acked.last().cloned() else { return };
        let again = self.to.ask(last.seq as usize, &self.path(last.run), Some(&body(&last.key))).await;
        if let Some((200, told)) = again {
            assert_eq!(told["seq"], json!(last.seq), "one key is one event on every replica");
        }
    }

    async fn read(&mut self, run: usize, replica: usize) {
        let behind = self.heads[run];
        let path = format!("/internal/v1/runs/{}?after={}", self.runs[run], behind.saturating_sub(1));
        match self.to.ask(replica, &path, None).await {
            Some((200, told)) => {
                let events = told["run"]["events"].as_array().unwrap();
                let head = events.last().map_or(0, |event| event["seq"].as_u64().unwrap());
                assert!(head >= behind, "a read went back from {behind} to {head}");
                self.heads[run] = head;
                self.seen.reads += 1;
            }
            None | Some((500 | 503, _)) => self.seen.unanswered += 1,
            Some((status, told)) => panic!("{path}: {status} {told}"),
        }
    }
}

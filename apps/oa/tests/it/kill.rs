//! A killed server loses nothing that it acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oa_testkit::Http;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::Server;

const KILLS: usize = 20;
const WRITERS: usize = 8;
const RUNS: usize = 4;

/// What was acknowledged: per run, the content under each sequence number, and the number of each key.
#[derive(Clone, Default)]
pub struct Acknowledged {
    pub events: BTreeMap<(String, u64), String>,
    keys: BTreeMap<(String, String), u64>,
}

/// One append, told to nobody if no answer came.
async fn append(http: &Http, run: &str, key: Option<&str>, content: &str) -> Option<u64> {
    let mut body = json!({"event_type": "step", "payload": {"content": content}});
    if let Some(key) = key {
        body["idempotency_key"] = json!(key);
    }
    let sent = try_post(http, &format!("/internal/v1/runs/{run}/events"), &body).await?;
    assert_eq!(sent.0, 200, "{}", sent.1);
    sent.1["seq"].as_u64()
}

/// A POST that may break off with the connection.
pub async fn try_post(http: &Http, path: &str, body: &Value) -> Option<(u16, Value)> {
    let (http, path, body) = (http.clone(), path.to_owned(), body.clone());
    // The helper of the kit stops the test when the connection breaks; here that is what we are after.
    let task =
        tokio::spawn(async move { http.post_with(&path, &body, &[("prefer", "return=minimal")]).await });
    let answered = task.await.ok()?;
    Some((answered.status, answered.json()))
}

pub async fn write_until(
    stop: Arc<AtomicBool>,
    http: Http,
    runs: Arc<Vec<String>>,
    writer: usize,
    round: usize,
    known: Arc<Mutex<Acknowledged>>,
) {
    let mut step = 0;
    while !stop.load(Ordering::Relaxed) {
        step += 1;
        let run = &runs[(writer + step) % runs.len()];
        let content = format!("{round}/{writer}/{step}");
        // Two writers of three use keys, and one of them shares its keys with its neighbour.
        let key = match writer % 3 {
            0 => None,
            1 => Some(format!("own-{content}")),
            _ => Some(format!("shared-{round}-{}", step)),
        };
        let content = if writer % 3 == 2 { format!("shared {round} {step}") } else { content };
        let Some(seq) = append(&http, run, key.as_deref(), &content).await else { return };
        let mut known = known.lock().unwrap();
        if let Some(key) = key {
            let before = known.keys.insert((run.clone(), key.clone()), seq);
            assert!(before.is_none_or(|before| before == seq), "key {key} became two events");
        }
        known.events.insert((run.clone(), seq), content);
    }
}

pub async fn check(http: &Http, runs: &[String], known: &Acknowledged) {
    for run in runs {
        let answered = http.get(&format!("/internal/v1/runs/{run}")).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let events = answered.json()["run"]["events"].as_array().unwrap().clone();
        let mut keys = BTreeMap::new();
        for (place, event) in events.iter().enumerate() {
            let seq = event["seq"].as_u64().unwrap();
            assert_eq!(seq, place as u64 + 1, "run {run} has a gap or a duplicate");
            if let Some(key) = event["idempotency_key"].as_str() {
                assert_eq!(keys.insert(key.to_owned(), seq), None, "key {key} stands twice in run {run}");
            }
        }
        for ((_, seq), content) in known.events.iter().filter(|((owner, _), _)| owner == run) {
            let found = events.get(*seq as usize - 1).map(|event| event["payload"]["content"].clone());
            assert_eq!(
                found,
                Some(json!(content)),
                "acknowledged event {seq} of run {run} is lost or altered"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    kill_under_load(Server::new(&home.path().join("data"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing_on_postgres_either() {
    let home = tempfile::tempdir().unwrap();
    kill_under_load(Server::on_postgres(&home.path().join("data"))).await;
}

async fn kill_under_load(mut server: Server) {
    server.start().await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(
            server.http().post("/internal/v1/runs", &json!({})).await.json()["run"]["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let (runs, known) = (Arc::new(runs), Arc::new(Mutex::new(Acknowledged::default())));
    let mut restarts = Vec::new();
    for round in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write_until(
                stop.clone(),
                server.http(),
                runs.clone(),
                writer,
                round,
                known.clone(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100 + 37 * (round as u64 % 7))).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        restarts.push(server.start().await);
        let so_far = std::mem::take(&mut *known.lock().unwrap());
        check(&server.http(), &runs, &so_far).await;
        *known.lock().unwrap() = so_far;
    }
    let events = known.lock().unwrap().events.len();
    restarts.sort_unstable();
    println!(
        "{events} acknowledged events survived {KILLS} kills; ready again in {:?} (median), {:?} (longest)",
        restarts[KILLS / 2],
        restarts[KILLS - 1]
    );
    assert!(events > 100, "the load was too light to prove anything: {events} events");
    assert!(
        restarts[KILLS / 2] <= Duration::from_secs(2),
        "ready again only after {:?}",
        restarts[KILLS / 2]
    );
}

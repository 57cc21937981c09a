//! Three replicas on one PostgreSQL, with NATS between them, under load: what they acknowledge is in the histories
//! once, subscribers see each event once and in order, the ledger adds up, and each job has one leader.
//! `OA_TEST_SCALE_SECONDS` says how long the load goes on.

mod check;
mod cluster;
mod followers;
mod jobs;
mod load;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{Database, NatsServer, Replica, three};
use followers::{Subscriber, subscribe};
use load::Addresses;
use oa_contract::{
    Timestamp,
    credential::{self, Bound, SIGNATURE_HEADER},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const RUNS: usize = 18;
const CLIENTS: usize = 10;
const BUYERS: u64 = 2;
const SECONDS: f64 = 12.0;

fn seconds() -> f64 {
    std::env::var("OA_TEST_SCALE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

async fn runs_of(to: &Addresses, count: usize) -> Arc<Vec<String>> {
    let mut runs = Vec::new();
    for n in 0..count {
        let begun = to.insist(n, "/internal/v1/runs", Some(&json!({}))).await;
        runs.push(begun["run"]["id"].as_str().unwrap().to_owned());
    }
    Arc::new(runs)
}

fn addresses(replicas: &[Replica]) -> Addresses {
    Addresses::new(replicas.iter().map(|replica| replica.url.clone()).collect())
}

/// Waits for something that has to come true.
async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_stand_still_die_and_lose_their_database_lose_and_double_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (database, nats) = (Database::start(), NatsServer::start());
    let mut replicas = three(home.path(), &database, Some(&nats)).await;
    let store = database.store().await;
    let to = addresses(&replicas);
    let _providers = [jobs::enrol(&replicas[0].http(), 1).await, jobs::enrol(&replicas[1].http(), 2).await];
    let runs = runs_of(&to, RUNS).await;
    let ends: Vec<Arc<AtomicU64>> = runs.iter().map(|_| Arc::default()).collect();
    // On each replica somebody follows each run.
    let subscribers: Vec<Subscriber> =
        (0..RUNS * 3).map(|n| subscribe(&to, n % 3, &runs, n / 3, ends[n / 3].clone())).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut clients, mut buyers) = (JoinSet::new(), JoinSet::new());
    for number in 0..CLIENTS {
        clients.spawn(load::client(number, to.clone(), runs.clone(), stop.clone()));
    }
    for number in 0..BUYERS {
        buyers.spawn(jobs::buyer(number, to.clone(), stop.clone()));
    }

    let begun = Instant::now();
    let at = async |share: f64| {
        let due = Duration::from_secs_f64(seconds() * share);
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    };
    at(0.12).await;
    // The replica that leads stands still, with whatever it has in its hands.
    let leads = check::leader(&store, "sweeps").await.expect("somebody sweeps");
    let stopped = replicas.iter().position(|replica| replica.log().contains(&leads.holder)).unwrap();
    replicas[stopped].stop();
    at(0.40).await;
    let killed = (stopped + 1) % 3;
    replicas[killed].kill();
    // Nobody but the third is left; the lease of the one that stands still runs out.
    let another = async || check::leader(&store, "sweeps").await.is_some_and(|term| term.token > leads.token);
    until("another replica sweeps", Duration::from_secs(40), another).await;
    at(0.55).await;
    replicas[stopped].go_on();
    at(0.65).await;
    tokio::task::block_in_place(|| database.restart());
    at(0.85).await;
    replicas[killed].begin();
    at(1.0).await;
    stop.store(true, Ordering::SeqCst);

    let mut seen = Vec::new();
    while let Some(one) = clients.join_next().await {
        seen.push(one.unwrap());
    }
    let mut settled = Vec::new();
    while let Some(all) = buyers.join_next().await {
        settled.extend(all.unwrap());
    }
    replicas[killed].ready().await;
    let took = begun.elapsed();
    let histories = check::histories(&to, &runs).await;
    for (history, end) in histories.iter().zip(&ends) {
        end.store(history.len() as u64, Ordering::SeqCst);
    }
    let acked = check::linearisable(&seen, &histories);
    let connections = check::followed(subscribers, &histories).await;
    jobs::check(&to, &settled).await;
    for lease in ["sweeps", "treasury", "pools.snapshots", "pools.payouts"] {
        check::one_leader(&store, lease).await;
    }
    store.close().await;
    for replica in &mut replicas {
        replica.end();
    }
    let verified = cluster::verify(home.path(), &database);
    let mut pace = vec![0; took.as_secs() as usize + 1];
    for one in seen.iter().flat_map(|one| &one.acked) {
        pace[one.acked.saturating_duration_since(begun).as_secs() as usize] += 1;
    }
    let unanswered: u64 = seen.iter().map(|one| one.unanswered).sum();
    let reads: u64 = seen.iter().map(|one| one.reads).sum();
    println!(
        "{acked} appends acknowledged in {took:.1?}, {unanswered} attempts without an answer, {reads} reads, {} jobs paid, \
         {connections} connections of {} subscribers; acknowledged in each second: {pace:?}\n{verified}",
        settled.len(),
        RUNS * 3,
    );
    assert!(acked > 100, "the load was too light to prove anything: {acked} appends");
    assert!(!settled.is_empty(), "nothing was paid");
}

/// Appends on one replica and says how long the subscriber of another took to hear of each, at most.
async fn slowest(to: &Addresses, runs: &[String], subscriber: &Subscriber, appends: u64) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..appends {
        let path = format!("/internal/v1/runs/{}/events", runs[subscriber.run]);
        let body = json!({"event_type": "step", "payload": {}});
        let told = to.insist(subscriber.first + 1, &path, Some(&body)).await;
        let (seq, since) = (told["seq"].as_u64().unwrap(), Instant::now());
        let heard = async || subscriber.position.load(Ordering::SeqCst) >= seq;
        until("the event arrives", Duration::from_secs(20), heard).await;
        slowest = slowest.max(since.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_brings_events_at_once_and_without_it_they_come_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let (database, mut nats) = (Database::start(), NatsServer::start());
    let mut replicas = three(home.path(), &database, Some(&nats)).await;
    let to = addresses(&replicas);
    let follows = replicas[0].http();
    let degraded = async || follows.get("/readyz").await.json()["degraded"].clone();
    until("NATS is there", Duration::from_secs(10), async || degraded().await.is_null()).await;
    let runs = runs_of(&to, 1).await;
    let end = Arc::new(AtomicU64::new(0));
    let subscriber = subscribe(&to, 0, &runs, 0, end.clone());
    // A follower that nothing wakes looks every five seconds while NATS is there.
    let woken = slowest(&to, &runs, &subscriber, 10).await;
    assert!(woken < Duration::from_secs(2), "{woken:?}");

    nats.kill();
    until("its absence is noticed", Duration::from_secs(20), async || !degraded().await.is_null()).await;
    let ready = follows.get("/readyz").await;
    assert_eq!(ready.status, 200, "what is slower works all the same");
    assert!(!ready.text().contains("secret"), "{}", ready.text());
    let polled = slowest(&to, &runs, &subscriber, 3).await;
    assert!(polled < Duration::from_secs(2), "{polled:?}");

    nats.again();
    until("NATS is there again", Duration::from_secs(20), async || degraded().await.is_null()).await;
    let again = slowest(&to, &runs, &subscriber, 10).await;
    assert!(again < Duration::from_secs(2), "{again:?}");
    println!("at the latest: {woken:?} with NATS, {polled:?} without, {again:?} with it again");
    // The first event is the run's own.
    end.store(24, Ordering::SeqCst);
    assert_eq!(subscriber.task.await.unwrap().keys.len(), 24);
    assert!(!replicas[0].log().contains("secret"), "{}", replicas[0].log());

    a_signed_credential_is_good_once(&replicas).await;
    replicas.iter_mut().for_each(Replica::end);
}

/// Sent to all replicas at once, one of them takes it.
async fn a_signed_credential_is_good_once(replicas: &[Replica]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = Timestamp::from_unix_seconds(i64::try_from(now).unwrap());
    let body = br#"{"metadata":{}}"#;
    let path = "/internal/v1/runs";
    for n in 0..5 {
        let bound = Bound { method: "POST", path, body };
        let header =
            credential::sign(cluster::SIGNATURE_SECRET.as_bytes(), bound, None, format!("n{n}"), now, 60);
        let mut all = JoinSet::new();
        for replica in replicas.iter().chain(replicas) {
            let (http, header) = (replica.http().anonymous(), header.clone());
            all.spawn(async move {
                let headers = [("content-type", "application/json"), (SIGNATURE_HEADER, header.as_str())];
                http.send("POST", path, &headers, Some(body.to_vec())).await.status
            });
        }
        let mut statuses = all.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401, 401, 401, 401, 401]);
    }
    let listed: Value = replicas[1].http().get("/admin/v1/runs?limit=50").await.json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 6, "five, and the one that was followed");
}

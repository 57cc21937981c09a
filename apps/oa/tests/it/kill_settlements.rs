//! A runtime that is killed again and again while jobs are quoted, done and paid: the money is where the events say,
//! no job is paid twice, and nothing stays held. The providers are SIMULATED.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oa_testkit::{Http, simulated::SimulatedProvider};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{kill::try_post, server::Server};

const KILLS: u64 = 16;
const JOBS: u64 = 48;
const AT_ONCE: u64 = 6;
const PRICE: u64 = 1000;

const QUOTE: &str = "/internal/v1/marketplace/compute/quote/sandbox-run";
const DISPATCH: &str = "/internal/v1/marketplace/dispatch/sandbox-run";
const SETTLE: &str = "/internal/v1/treasury/compute/settle/sandbox-run";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_survive_kills_and_move_money_once() {
    let home = tempfile::tempdir().unwrap();
    kill_while_paying(Server::new(&home.path().join("data")), 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_survive_kills_and_move_money_once_on_postgres_too() {
    let home = tempfile::tempdir().unwrap();
    kill_while_paying(Server::on_postgres(&home.path().join("data")), 7_000_000).await;
}

/// Asks until there is an answer, over however many kills.
async fn answer(http: &Http, path: &str, body: &Value, done: impl Fn(u16) -> bool) -> Value {
    let begun = tokio::time::Instant::now();
    loop {
        match try_post(http, path, body).await {
            Some((status, told)) if done(status) => return told,
            Some((status, told)) => {
                let passes = matches!(status, 409 | 429 | 502 | 503);
                assert!(passes && begun.elapsed() < Duration::from_secs(90), "{path}: {status} {told}");
            }
            None => {}
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

fn ok(status: u16) -> bool {
    matches!(status, 200 | 201)
}

/// One job of an owner of its own, from the run to the payment; the settlement as it was asked and answered.
async fn paid(http: Http, owner: u64) -> (Value, Value) {
    let begin = json!({"owner_user_id": owner, "run_id": uuid::Uuid::new_v4()});
    let run = answer(&http, "/internal/v1/runs", &begin, ok).await["run"]["id"].clone();
    let request = json!({
        "sandbox": {"image_digest": "", "resources": {"timeout_secs": 1}}, "commands": [{"cmd": format!("echo {owner}")}],
    });
    let order = json!({"owner_user_id": owner, "request": request});
    let quote = answer(&http, QUOTE, &order, ok).await["quote"].clone();
    let mut order = order;
    order["run_id"] = run.clone();
    order["quote_id"] = quote["quote_id"].clone();
    order["quote_sha256"] = quote["quote_sha256"].clone();
    let dispatched = answer(&http, DISPATCH, &order, ok).await;
    let provider = &dispatched["selection"]["provider"];
    let settle = json!({
        "owner_user_id": owner, "run_id": run, "provider_id": provider["provider_id"],
        "provider_worker_id": provider["worker_id"], "amount_msats": PRICE, "quote": dispatched["quote"],
        "request": request, "response": dispatched["response"],
    });
    let settled = answer(&http, SETTLE, &settle, ok).await;
    (settle, settled)
}

async fn enrol(http: &Http, worker_id: &str, owner: u64) -> SimulatedProvider {
    let provider = SimulatedProvider::start().await;
    let metadata = json!({
        "roles": ["provider"], "provider_id": worker_id, "provider_base_url": provider.url(), "reserve_pool": true,
        "capabilities": ["oa.sandbox_run.v1"], "min_price_msats": PRICE,
    });
    let body = json!({"worker_id": worker_id, "owner_user_id": owner, "metadata": metadata});
    let enrolled = http.post("/internal/v1/workers", &body).await;
    assert_eq!(enrolled.status, 201, "{}", enrolled.text());
    provider
}

async fn kill_while_paying(mut server: Server, owners: u64) {
    server.environment = vec![
        ("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1".into()),
        // Every second job is run once more, so kills fall between the two turns of a settlement too.
        ("RUNTIME_REEXECUTION_SAMPLE_BPS", "5000".into()),
    ];
    server.start().await;
    let http = server.http();
    let mut providers = Vec::new();
    for n in 0..3 {
        providers.push(enrol(&http, &format!("p{n}-{owners}"), owners + 900 + n).await);
    }
    let (next, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut buyers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (http, next, ended) = (http.clone(), next.clone(), ended.clone());
        buyers.spawn(async move {
            let mut all = Vec::new();
            loop {
                let job = next.fetch_add(1, Ordering::SeqCst) as u64;
                if job >= JOBS {
                    return all;
                }
                all.push((owners + job, paid(http.clone(), owners + job).await));
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut met = 0;
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(60 + 23 * (kill % 5))).await;
        met += u64::from(ended.load(Ordering::SeqCst) < JOBS as usize);
        server.kill();
        server.start().await;
    }
    let mut settled = Vec::new();
    while let Some(all) = buyers.join_next().await {
        settled.extend(all.unwrap());
    }
    println!("{met} of {KILLS} kills fell into the work of {} jobs", settled.len());
    assert_eq!(settled.len() as u64, JOBS);
    for (owner, (asked, told)) in &settled {
        assert_eq!(told["settlement_status"], "released", "{told}");
        assert_eq!(&http.post(SETTLE, asked).await.json(), told, "the same answer for ever");
        let summary =
            http.get(&format!("/internal/v1/treasury/compute/summary?owner_user_id={owner}")).await.json();
        let account = &summary["account"];
        assert_eq!(
            (&account["reserved_msats"], &account["spent_msats"]),
            (&json!(0), &json!(PRICE + 5 + 500))
        );
        assert_eq!(
            (&summary["released_count"], &summary["released_msats_total"]),
            (&json!(1), &json!(PRICE))
        );
        let run = asked["run_id"].as_str().unwrap();
        let receipt = http.get(&format!("/internal/v1/runs/{run}/receipt")).await.json();
        assert_eq!(receipt["metrics"]["payments_msats_total"], json!(PRICE), "{receipt}");
    }
    let compared = http.post("/internal/v1/treasury/compute/reconcile", &json!({})).await.json();
    let runs: Vec<&Value> = settled.iter().map(|(_, (asked, _))| &asked["run_id"]).collect();
    let findings = compared["drift"]["findings"].as_array().unwrap();
    assert!(!findings.iter().any(|one| runs.contains(&&one["run_id"])), "{findings:?}");
}

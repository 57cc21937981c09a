//! What the poster does when control answers otherwise than it should: against a SIMULATED control that says what the test wrote down.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use oa_client::{Client, Identity};
use oa_contract::wire::codex::CreateCodexWorker;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    control::Control,
    poster::{Poster, Verdict},
    spool::Spool,
};
use crate::{
    data_dir::tests::{Scratch, scratch},
    failure::{Failure, REFUSED},
    output::Format,
};

#[derive(Default)]
struct Said {
    /// How posts of events are answered, one after the other; then with 202.
    answers: VecDeque<u16>,
    /// How the worker is, when it is looked at.
    status: &'static str,
    events: Vec<Value>,
    created: usize,
}

type Shared = Arc<Mutex<Said>>;

async fn speak(State(said): State<Shared>, method: Method, uri: Uri, body: axum::body::Bytes) -> Response {
    let mut said = said.lock().expect("not poisoned");
    let json = |status: u16, body: Value| {
        let status = StatusCode::from_u16(status).expect("a status");
        (status, [("content-type", "application/json")], body.to_string()).into_response()
    };
    if method == Method::GET {
        return json(200, json!({"data": snapshot(said.status)}));
    }
    if !uri.path().ends_with("/events") {
        said.created += 1;
        let made = json!({"workerId": "w", "status": "running", "latestSeq": 0, "idempotentReplay": false});
        return json(202, json!({"data": made}));
    }
    let event = serde_json::from_slice::<Value>(&body).expect("JSON")["event"].clone();
    if event["event_type"] == "worker.heartbeat" {
        return json(202, json!({"data": {}}));
    }
    match said.answers.pop_front() {
        None | Some(202) => {
            said.events.push(event);
            json(202, json!({"data": {}}))
        }
        Some(status) => json(status, json!({"message": "no", "error": {"code": "x", "message": "no"}})),
    }
}

fn snapshot(status: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!({"worker_id": "w", "status": status, "latest_seq": 0, "workspace_ref": null, "codex_home_ref": null,
        "adapter": "codex_app_server", "metadata": null, "started_at": at, "stopped_at": null,
        "last_heartbeat_at": at, "heartbeat_age_ms": 0, "heartbeat_stale_after_ms": 120_000,
        "heartbeat_state": "fresh", "updated_at": at, "attached": true, "oldest_seq": 1,
        "khala_projection": {"status": "in_sync", "lag_events": 0, "last_runtime_seq": 0, "last_projected_at": at}})
}

struct Bench {
    said: Shared,
    spool: Arc<Spool>,
    poster: Option<Poster>,
    _directory: Scratch,
}

impl Bench {
    async fn new(status: &'static str, answers: &[u16]) -> Self {
        let said = Said { answers: answers.iter().copied().collect(), status, ..Said::default() };
        let said = Arc::new(Mutex::new(said));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().fallback(speak).with_state(said.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let client = Client::new(&base, Identity::Nobody).expect("a client");
        let about = CreateCodexWorker::default();
        let control = Control { client, worker_id: "w".to_owned(), about };
        let directory = scratch();
        let spool = Spool::open(directory.path(), &base, "w", 1_000_000).expect("a spool");
        let spool = Arc::new(spool);
        let (attached, _) = watch::channel(None);
        let poster = Poster { control, spool: spool.clone(), format: Format::Text, attached, away: false };
        Bench { said, spool, poster: Some(poster), _directory: directory }
    }

    fn put(&self, event_type: &str, payload: &Value, answers: Option<&str>) {
        self.spool.event(event_type, payload, answers.map(str::to_owned)).expect("staged");
        self.spool.commit().expect("committed");
    }

    /// Posts until nothing waits, or until the poster gives up.
    async fn post(&mut self) -> Option<Verdict> {
        let poster = self.poster.take().expect("not used yet");
        let spool = self.spool.clone();
        let delivered = async {
            while spool.events_waiting() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            verdict = poster.run() => Some(verdict),
            () = delivered => None,
        }
    }

    fn taken(&self) -> Vec<Value> {
        self.said.lock().expect("not poisoned").events.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_control_will_never_take_is_told_instead_and_does_not_hold_up_the_rest() {
    let mut bench = Bench::new("running", &[422]).await;
    bench.put("worker.event", &json!({"source": "codex_app_server", "method": "strange"}), None);
    bench.put("worker.event", &json!({"next": true}), None);
    assert!(bench.post().await.is_none());
    let taken = bench.taken();
    assert_eq!(taken[0]["payload"]["method"], "event/refused");
    assert_eq!(taken[0]["payload"]["params"]["event_type"], "worker.event");
    assert_eq!(taken[1]["payload"]["next"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_control_does_not_take_becomes_an_error_unless_the_request_has_ended() {
    let mut bench = Bench::new("running", &[413, 202, 409]).await;
    for request_id in ["r1", "r2"] {
        let answer = json!({"request_id": request_id, "method": "thread/read", "ok": true, "response": {}});
        bench.put("worker.response", &answer, Some(request_id));
    }
    assert!(bench.post().await.is_none());
    let taken = bench.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0]["event_type"], "worker.error");
    assert_eq!(
        (&taken[0]["payload"]["request_id"], &taken[0]["payload"]["method"]),
        (&json!("r1"), &json!("thread/read"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_control_gave_up_is_brought_back_and_loses_nothing() {
    let mut bench = Bench::new("failed", &[409]).await;
    bench.put("worker.event", &json!({"kept": true}), None);
    assert!(bench.post().await.is_none());
    assert_eq!(bench.taken()[0]["payload"]["kept"], true);
    assert_eq!(bench.said.lock().expect("not poisoned").created, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_somebody_stopped_stays_stopped() {
    let mut bench = Bench::new("stopped", &[409]).await;
    bench.put("worker.event", &json!({}), None);
    assert!(matches!(bench.post().await, Some(Verdict::Stopped)));
    assert_eq!(bench.said.lock().expect("not poisoned").created, 1);
    assert_eq!(bench.spool.events_waiting(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_posting_and_a_server_that_is_ill_does_not() {
    let mut bench = Bench::new("running", &[503, 500, 202, 401]).await;
    bench.put("worker.event", &json!({"n": 1}), None);
    bench.put("worker.event", &json!({"n": 2}), None);
    assert!(matches!(bench.post().await, Some(Verdict::Broken(Failure { code: REFUSED, .. }))));
    assert_eq!(bench.taken().len(), 1);
    assert_eq!(bench.spool.events_waiting(), 1, "what was not taken is kept");
}

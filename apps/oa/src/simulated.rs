//! SIMULATED runtime for tests: speaks HTTP over a real socket, keeps runs in memory, and fails on command as a real server does when it dies.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use oa_contract::{
    Timestamp,
    chain::ChainHash,
    receipt::ReceiptBuilder,
    signer::Signer,
    transition::{self, Transition},
    wire::runs::{
        Actor, AppendEvent, ListRuns, Run, RunEvent, RunLine, RunList, RunReply, RunStatus, StartRun,
    },
};
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connect::Place;

pub const TOKEN: &str = "simulated-token";
pub const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000003";

/// What the server holds; survives its death, as a store does.
#[derive(Default)]
pub struct Held {
    pub runs: Vec<Run>,
    opened: HashMap<String, Uuid>,
    /// Appends that arrived, replays included.
    pub appends: u64,
    /// After each of so many appends the connection is cut before the answer.
    pub cut_every: u64,
    /// A stream is cut after so many events.
    pub cut_stream_after: Option<usize>,
    /// Every append is answered with this status.
    pub refuse_appends: Option<(u16, String)>,
}

pub struct Simulated {
    pub held: Arc<Mutex<Held>>,
    pub address: SocketAddr,
    task: Option<JoinHandle<()>>,
    end: CancellationToken,
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

enum Reply {
    Whole(u16, Value),
    Raw(u16, String),
    Stream(Vec<String>),
    Cut,
}

impl Simulated {
    pub async fn start() -> Self {
        let mut simulated = Simulated {
            held: Arc::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            task: None,
            end: CancellationToken::new(),
        };
        simulated.revive().await;
        simulated
    }

    /// Dies as by `kill -9`: the port is closed and every connection is cut when this returns.
    pub async fn kill(&mut self) {
        self.end.cancel();
        if let Some(task) = self.task.take() {
            task.await.expect("ended");
        }
    }

    /// Comes back on the same port with what it held.
    pub async fn revive(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.address = listener.local_addr().expect("an address");
        let held = self.held.clone();
        self.end = CancellationToken::new();
        let end = self.end.clone();
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Some(Ok((socket, _))) = end.run_until_cancelled(listener.accept()).await {
                connections.spawn(converse(socket, held.clone()));
            }
            drop(listener);
            connections.shutdown().await;
        }));
    }

    pub fn place(&self) -> Place {
        Place { url: format!("http://{}", self.address), token: Some(TOKEN.into()) }
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("not poisoned")
    }

    /// The only run, once there is one.
    pub fn run(&self) -> Run {
        self.held().runs.first().cloned().expect("a run")
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn converse(mut socket: TcpStream, held: Arc<Mutex<Held>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut socket, &mut buffer).await {
        let reply = answer(&request, &mut held.lock().expect("not poisoned"));
        let sent = match reply {
            Reply::Cut => return,
            Reply::Whole(status, body) => send(&mut socket, status, &body.to_string()).await,
            Reply::Raw(status, body) => send(&mut socket, status, &body).await,
            Reply::Stream(parts) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n";
                let _ = socket.write_all((head.to_owned() + &parts.concat()).as_bytes()).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn send(socket: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let now = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc2822)
        .expect("a date");
    let date = now.replace("+0000", "GMT");
    let head = format!(
        "HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + body).as_bytes()).await
}

async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(buffer[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while buffer.len() < head + length {
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head..head + length].to_vec();
    buffer.drain(..head + length);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

fn now() -> Timestamp {
    let now = time::OffsetDateTime::now_utc();
    Timestamp::from_micros((now.unix_timestamp_nanos() / 1_000) as i64)
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::Whole(status, json!({"error": "simulated", "message": message}))
}

fn answer(request: &Request, held: &mut Held) -> Reply {
    let segments: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    if segments == ["healthz"] {
        return Reply::Whole(200, health());
    }
    if segments == ["readyz"] {
        return Reply::Whole(200, json!({"status": "ready"}));
    }
    if request.headers.get("authorization").map(String::as_str) != Some(format!("Bearer {TOKEN}").as_str()) {
        return refusal(401, "who are you?");
    }
    match (request.method.as_str(), segments.as_slice()) {
        ("POST", ["internal", "v1", "runs"]) => start(held, &request.body),
        ("GET", ["admin", "v1", "runs"]) => list(held, request),
        ("GET", ["streams", stream]) => {
            let id = stream.trim_start_matches("runtime.run.").trim_end_matches(".events");
            with_run(held, id, |held, at| follow(held, at, request))
        }
        ("POST", ["internal", "v1", "runs", id, "events"]) => {
            with_run(held, id, |held, at| append(held, at, &request.body))
        }
        ("GET", ["internal", "v1", "runs", id]) => with_run(held, id, |held, at| {
            Reply::Raw(200, serde_json::to_string(&RunReply { run: held.runs[at].clone() }).expect("JSON"))
        }),
        ("GET", ["internal", "v1", "runs", id, "receipt"]) => {
            with_run(held, id, |held, at| Reply::Raw(200, receipt(&held.runs[at])))
        }
        _ => refusal(404, "no such route"),
    }
}

fn health() -> Value {
    json!({"status": "ok", "service": "simulated", "build_sha": "dev", "uptime_seconds": 1,
        "authority_write_mode": "rust_active", "authority_writer_active": true, "db_configured": true})
}

fn with_run(held: &mut Held, id: &str, f: impl FnOnce(&mut Held, usize) -> Reply) -> Reply {
    match held.runs.iter().position(|run| run.id.to_string() == id) {
        Some(at) => f(held, at),
        None => refusal(404, "no such run"),
    }
}

fn start(held: &mut Held, body: &[u8]) -> Reply {
    let start: StartRun = serde_json::from_slice(body).expect("a start");
    let known = start.idempotency_key.as_ref().and_then(|key| held.opened.get(key)).copied();
    let at = match known {
        Some(id) => held.runs.iter().position(|run| run.id == id).expect("opened"),
        None => {
            let id = Uuid::now_v7();
            if let Some(key) = start.idempotency_key {
                held.opened.insert(key, id);
            }
            let metadata = start.metadata.unwrap_or_else(|| RawValue::NULL.to_owned());
            let at = now();
            held.runs.push(Run {
                id,
                worker_id: None,
                status: RunStatus::Created,
                metadata,
                events: vec![],
                created_at: at,
                updated_at: at,
            });
            let last = held.runs.len() - 1;
            push(
                &mut held.runs[last],
                "run.started",
                RawValue::from_string(r#"{"source":"runtime"}"#.into()).expect("JSON"),
                None,
            );
            held.runs[last].status = RunStatus::Running;
            last
        }
    };
    Reply::Raw(201, serde_json::to_string(&RunReply { run: held.runs[at].clone() }).expect("JSON"))
}

fn push(run: &mut Run, event_type: &str, payload: Box<RawValue>, key: Option<String>) {
    let before = run
        .events
        .last()
        .map_or_else(|| ChainHash::genesis(run.id), |event| ChainHash::parse(&event.hash).expect("a hash"));
    let mut event = RunEvent {
        seq: run.events.len() as u64 + 1,
        event_type: event_type.to_owned(),
        payload,
        idempotency_key: key,
        recorded_at: now(),
        actor: Actor::Caller,
        hash: String::new(),
    };
    event.hash = before.next(&event).to_string();
    run.events.push(event);
}

fn append(held: &mut Held, at: usize, body: &[u8]) -> Reply {
    if let Some((status, message)) = &held.refuse_appends {
        return refusal(*status, message);
    }
    held.appends += 1;
    let cut = held.cut_every > 0 && held.appends.is_multiple_of(held.cut_every);
    let ask: AppendEvent = serde_json::from_slice(body).expect("an event");
    let run = &mut held.runs[at];
    let payload = ask.payload.unwrap_or_else(|| RawValue::NULL.to_owned());
    let known = run
        .events
        .iter()
        .find(|event| event.idempotency_key.is_some() && event.idempotency_key == ask.idempotency_key);
    if let Some(known) = known {
        if known.payload.get() != payload.get() {
            return refusal(409, "another content under this key");
        }
    } else {
        if let Ok(Some(asked)) = Transition::of(&ask.event_type, &payload) {
            match transition::apply(run.status, asked) {
                Ok(status) => run.status = status,
                Err(_) => return refusal(400, "invalid run transition: simulated"),
            }
        }
        push(run, &ask.event_type, payload, ask.idempotency_key);
    }
    match cut {
        true => Reply::Cut,
        false => Reply::Whole(200, json!({"run_id": run.id, "seq": run.events.len(), "hash": ""})),
    }
}

fn receipt(run: &Run) -> String {
    let mut builder = ReceiptBuilder::new(run.id, &run.metadata, run.created_at);
    for event in &run.events {
        builder.push(event).expect("well-formed");
    }
    let signer = Signer::from_secret(SECRET).expect("a key");
    serde_json::to_string(&builder.finish(Some(&signer)).expect("a receipt")).expect("JSON")
}

fn list(held: &mut Held, request: &Request) -> Reply {
    let limit: usize = request.query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(50);
    let before = request.query.get("before").and_then(|text| text.parse().ok());
    let asked = ListRuns {
        limit: Some(limit as u64),
        status: request.query.get("status").and_then(|name| RunStatus::parse(name)),
        before,
    };
    let fitting = held.runs.iter().rev().filter(|run| {
        asked.before.is_none_or(|before| run.id < before)
            && asked.status.is_none_or(|status| run.status == status)
    });
    let mut lines: Vec<RunLine> = fitting
        .take(limit + 1)
        .map(|run| RunLine {
            id: run.id,
            worker_id: None,
            status: run.status,
            latest_seq: run.events.len() as u64,
            metadata: run.metadata.clone(),
            created_at: run.created_at,
            updated_at: run.updated_at,
        })
        .collect();
    let next = (lines.len() > limit).then(|| lines[limit - 1].id);
    lines.truncate(limit);
    Reply::Raw(200, serde_json::to_string(&RunList { runs: lines, next }).expect("JSON"))
}

/// Sends what there is and cuts the connection: a client must come back for more.
fn follow(held: &mut Held, at: usize, request: &Request) -> Reply {
    let last = request.headers.get("last-event-id").or_else(|| request.query.get("after"));
    let after: u64 = last.and_then(|text| text.parse().ok()).unwrap_or(0);
    let run = &held.runs[at];
    let events =
        run.events.iter().filter(|event| event.seq > after).take(held.cut_stream_after.unwrap_or(usize::MAX));
    let parts = events.map(|event| {
        let envelope = format!(
            r#"{{"topic":"run:{}:events","sequence":{},"kind":"{}","published_at":"{}","payload":{}}}"#,
            run.id,
            event.seq,
            event.event_type,
            event.recorded_at.offset(),
            event.payload.get()
        );
        format!("id: {}\nevent: {}\ndata: {envelope}\n\n", event.seq, event.event_type)
    });
    Reply::Stream(parts.collect())
}

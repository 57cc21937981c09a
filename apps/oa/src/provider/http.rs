//! Decides what a provider answers to whom: the calls of the runtime, and those of its operator.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Extension, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use oa_contract::{
    Clock as _, canonical,
    wire::jobs::{RepoIndexRequest, SandboxRunRequest, job_hash},
};
use oa_edge::Peer;
use oa_sandbox::{Layer, Layers};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    jobs::{Jobs, Order, Reply},
    work::Refusal,
};
use crate::{data_dir::reveal, system::SystemClock};

/// The longest request.
const LONGEST: usize = 1 << 20;
const LONGEST_KEY: usize = 256;

pub struct Provider {
    pub id: String,
    pub jobs: Arc<Jobs>,
    /// The operator's.
    pub token: Option<SecretString>,
    /// What whoever sends jobs shows; anybody may who comes this near when there is none.
    pub caller: Option<SecretString>,
    pub clock: SystemClock,
}

pub fn router(provider: Arc<Provider>) -> Router {
    // Jobs, and what they have said. Who may come in is asked before the body is read.
    let jobs = Router::new()
        .route("/v1/sandbox_run", post(sandbox_run))
        .route("/v1/repo_index", post(repo_index))
        .route("/v1/blobs/{digest}", get(blob))
        .route_layer(from_fn_with_state(provider.clone(), callers_only));
    Router::new()
        .merge(jobs)
        .route("/healthz", get(health))
        .route("/v1/status", get(status))
        .route("/v1/disable", post(|provider, peer, headers| switch(provider, peer, headers, false)))
        .route("/v1/enable", post(|provider, peer, headers| switch(provider, peer, headers, true)))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(provider)
}

fn text(status: u16, why: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, why.to_owned()).into_response()
}

fn document(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn answer(reply: Reply) -> Response {
    match reply {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(refusal) => text(refusal.status, &refusal.why),
    }
}

async fn health(State(provider): State<Arc<Provider>>) -> Response {
    match provider.jobs.is_ending() {
        true => text(503, "provider is ending"),
        false => document(&json!({"ok": true, "id": provider.id})),
    }
}

async fn sandbox_run(State(provider): State<Arc<Provider>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(run_sandbox(&provider, &headers, &body).await)
}

async fn run_sandbox(provider: &Provider, headers: &HeaderMap, body: &Bytes) -> Reply {
    let request: SandboxRunRequest = read(headers, body)?;
    let hash = job_hash(&request).map_err(|error| Refusal::new(400, error.to_string()))?;
    let demanded = demanded(headers)?;
    let spec = provider.jobs.workshop.admit(&request, &demanded)?;
    let title = request.commands.iter().map(|one| one.cmd.as_str()).collect::<Vec<_>>().join(" && ");
    let order = Order { key: key(headers, &hash, "run")?, request: hash.clone(), title };
    let now = now(provider);
    provider
        .jobs
        .reply(order, move |workshop, cancel| workshop.run(&request, &spec, &hash, now, cancel))
        .await
}

async fn repo_index(State(provider): State<Arc<Provider>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(index_repo(&provider, &headers, &body).await)
}

async fn index_repo(provider: &Provider, headers: &HeaderMap, body: &Bytes) -> Reply {
    let request: RepoIndexRequest = read(headers, body)?;
    let hash = canonical::hash_of(&request).map_err(|error| Refusal::new(400, error.to_string()))?;
    let title = format!("index of {} {}", request.repo_url, request.git_ref);
    let order = Order { key: key(headers, &hash, "index")?, request: hash.clone(), title };
    let now = now(provider);
    provider.jobs.reply(order, move |workshop, cancel| workshop.index(&request, &hash, now, cancel)).await
}

fn now(provider: &Provider) -> u64 {
    u64::try_from(provider.clock.now().unix_seconds()).unwrap_or(0)
}

fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(Refusal::new(415, "the body must be application/json"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::new(400, format!("the body does not fit: {error}")))
}

/// Each kind of job has keys of its own; without one, equal requests are the same.
fn key(headers: &HeaderMap, hash: &str, kind: &str) -> Result<String, Refusal> {
    let given = match headers.get("x-idempotency-key") {
        None => hash,
        Some(value) => match value.to_str().map(str::trim) {
            Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY => key,
            _ => {
                return Err(Refusal::new(
                    400,
                    format!("x-idempotency-key must have 1 to {LONGEST_KEY} plain characters"),
                ));
            }
        },
    };
    Ok(format!("{kind}:{given}"))
}

/// Layers that this job shall have beyond the provider's own minimum: `x-oa-isolation: landlock, cgroup_memory`.
fn demanded(headers: &HeaderMap) -> Result<Layers, Refusal> {
    let Some(value) = headers.get("x-oa-isolation") else { return Ok(Layers::default()) };
    let list = value.to_str().map_err(|_| Refusal::new(400, "x-oa-isolation is no text"))?;
    layers(list).map_err(|why| Refusal::new(422, why))
}

/// Layers by their names, separated by commas.
pub fn layers(list: &str) -> Result<Layers, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let layer = Layer::ALL.into_iter().find(|layer| layer.name() == name);
            layer.ok_or_else(|| format!("no layer of isolation is called {name:?}"))
        })
        .collect()
}

async fn blob(State(provider): State<Arc<Provider>>, Path(digest): Path<String>) -> Response {
    let Some(path) = provider.jobs.workshop.keep.blob(&digest) else {
        return text(404, "nothing of that digest is kept");
    };
    match tokio::fs::File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await.map_or(0, |metadata| metadata.len());
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
                // What a stranger's program wrote is shown by no browser as a page.
                (header::CONTENT_DISPOSITION, "attachment".to_owned()),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, Body::from_stream(tokio_util::io::ReaderStream::new(file))).into_response()
        }
        Err(_) => text(404, "nothing of that digest is kept"),
    }
}

async fn status(State(provider): State<Arc<Provider>>) -> Response {
    let (executions, cache_hits) = provider.jobs.counts();
    let workshop = &provider.jobs.workshop;
    document(&json!({
        "id": provider.id,
        "enabled": provider.jobs.is_enabled() && !provider.jobs.is_ending(),
        "executions": executions,
        "cache_hits": cache_hits,
        "max_timeout_secs": workshop.caps.timeout_secs,
        "running": provider.jobs.running_count(),
        "isolation": super::isolation(&workshop.isolation),
    }))
}

async fn switch(
    State(provider): State<Arc<Provider>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    enabled: bool,
) -> Response {
    let may = match &provider.token {
        Some(token) => shows(&headers, token),
        None => peer.ip().to_canonical().is_loopback(),
    };
    if !may {
        return text(403, "only the operator may do this");
    }
    provider.jobs.enable(enabled);
    document(&json!({"ok": true, "enabled": enabled}))
}

async fn callers_only(State(provider): State<Arc<Provider>>, request: Request, next: Next) -> Response {
    match &provider.caller {
        Some(token) if !shows(request.headers(), token) => {
            let mut refused = text(401, "this provider does jobs for its runtime only");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            refused
        }
        _ => next.run(request).await,
    }
}

fn shows(headers: &HeaderMap, token: &SecretString) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|shown| same(reveal(token), shown))
}

/// Compares digests, so that the time it takes says nothing about the token.
fn same(one: &str, other: &str) -> bool {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(one.as_bytes()) == Sha256::digest(other.as_bytes())
}

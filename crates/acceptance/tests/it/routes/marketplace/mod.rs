//! `/internal/v1/marketplace/*` and the scoring of routes, with SIMULATED providers on real sockets.

mod budgets;
mod catalog;
mod decisions;
mod dispatch;
mod dispatch_failures;
mod dispatch_limits;
mod enrolment;
mod quote;

use oa_contract::Owner;
use oa_testkit::{Answered, World, simulated::SimulatedProvider};
use serde_json::{Value, json};

pub const ROUTE: &str = "/internal/v1/marketplace/route/provider";
pub const QUOTE: &str = "/internal/v1/marketplace/compute/quote/sandbox-run";
pub const DISPATCH: &str = "/internal/v1/marketplace/dispatch/sandbox-run";
pub const CATALOG: &str = "/internal/v1/marketplace/catalog/providers";
pub const TELEMETRY: &str = "/internal/v1/marketplace/telemetry/compute";

/// The hash of [`job`].
pub const JOB: &str = "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125";

/// The job of the specification's vectors.
pub fn job() -> Value {
    json!({"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]})
}

/// An order of this owner for that job, with more members laid over.
pub fn order(owner: u64, more: Value) -> Value {
    let mut body = json!({"owner_user_id": owner, "request": job()});
    for (member, value) in more.as_object().expect("an object") {
        body[member] = value.clone();
    }
    body
}

/// Enrols a provider as a worker, as an operator does; what it says of itself is laid over the usual.
pub async fn enrol(world: &World, worker_id: &str, owner: u64, base_url: &str, more: Value) -> Answered {
    let body = registration(worker_id, owner, base_url, more);
    let answered = world.http.post("/internal/v1/workers", &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    answered
}

pub fn registration(worker_id: &str, owner: u64, base_url: &str, more: Value) -> Value {
    let mut metadata = json!({
        "roles": ["client", "provider"], "provider_id": format!("prov-{worker_id}"),
        "provider_base_url": base_url, "capabilities": ["oa.sandbox_run.v1"], "min_price_msats": 1000,
    });
    for (member, value) in more.as_object().expect("an object") {
        metadata[member] = value.clone();
    }
    json!({"worker_id": worker_id, "owner_user_id": owner, "metadata": metadata})
}

/// A provider of this owner that asks this price, enrolled.
pub async fn provider(world: &World, worker_id: &str, owner: u64, price: u64) -> SimulatedProvider {
    let provider = SimulatedProvider::start().await;
    enrol(world, worker_id, owner, &provider.url(), json!({"min_price_msats": price})).await;
    provider
}

/// One in the reserve pool.
pub async fn reserve(world: &World, worker_id: &str, owner: u64, price: u64) -> SimulatedProvider {
    let provider = SimulatedProvider::start().await;
    let more = json!({"min_price_msats": price, "reserve_pool": true});
    enrol(world, worker_id, owner, &provider.url(), more).await;
    provider
}

/// Sends as somebody who may speak for one owner only.
pub async fn post_as(world: &World, owner: u64, path: &str, body: &Value) -> Answered {
    let bytes = body.to_string().into_bytes();
    let signature = world.signature(&Owner::User(owner), "POST", path, &bytes);
    let headers = [("content-type", "application/json"), ("x-oa-runtime-signature", signature.as_str())];
    world.http.anonymous().send("POST", path, &headers, Some(bytes)).await
}

pub async fn get_as(world: &World, owner: u64, path: &str) -> Answered {
    let signature = world.signature(&Owner::User(owner), "GET", path, b"");
    let headers = [("x-oa-runtime-signature", signature.as_str())];
    world.http.anonymous().send("GET", path, &headers, None).await
}

/// Begins a run that belongs to this owner.
pub async fn run_of(world: &World, owner: u64) -> String {
    let body = json!({"owner_user_id": owner});
    let answered = post_as(world, owner, "/internal/v1/runs", &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    answered.json()["run"]["id"].as_str().expect("an id").to_owned()
}

/// How much of an owner's budget is reserved.
pub async fn reserved(world: &World, owner: u64) -> u64 {
    let listed = world.http.get(&format!("/admin/v1/budgets?owner_user_id={owner}")).await.json();
    listed["budgets"][0]["reserved_msats"].as_u64().expect("an amount")
}

/// What the catalogue says of one worker.
pub async fn entry(world: &World, worker_id: &str) -> Value {
    let listed = world.http.get(CATALOG).await.json();
    let all = listed["providers"].as_array().expect("providers").clone();
    all.into_iter().find(|one| one["worker_id"] == worker_id).expect("the worker")
}

/// Status and message.
pub fn said(answered: &Answered) -> (u16, String) {
    (answered.status, answered.json()["message"].as_str().unwrap_or_default().to_owned())
}

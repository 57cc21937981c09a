//! `/internal/v1/treasury/compute/*`, as the specification's own clients use it: the provider is the payer's, and
//! what it answered is told by the payer.

mod reconcile;
mod settle;
mod statement;
mod summary;

use oa_testkit::World;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

pub const SETTLE: &str = "/internal/v1/treasury/compute/settle/sandbox-run";
pub const J30: &str = "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125";

/// A provider that is healthy and does nothing else.
pub struct Healthy(JoinHandle<()>);

impl Drop for Healthy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Enrols `worker:a` as `provider-a` of user 11, at 1000 msats.
pub async fn enrol(world: &World) -> Healthy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = peer.read(&mut request).await;
            let _ =
                peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    let body = json!({"worker_id": "worker:a", "owner_user_id": 11, "adapter": "openagents_compute_provider",
        "metadata": {"roles": ["client", "provider"], "provider_id": "provider-a", "provider_base_url": base,
            "capabilities": ["oa.sandbox_run.v1"], "min_price_msats": 1000, "reserve_pool": false,
            "caps": {"max_timeout_secs": 120}}});
    let answered = world.http.post("/internal/v1/workers", &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    Healthy(serving)
}

/// The example of the specification (§10.4) in this run.
pub fn example(run_id: &str) -> Value {
    json!({"owner_user_id":11,"run_id":run_id,"provider_id":"provider-a","provider_worker_id":"worker:a","amount_msats":1000,"request":{"sandbox":{"image_digest":"sha256:test","resources":{"timeout_secs":30}},"commands":[{"cmd":"echo hi"}]},"response":{"env_info":{"image_digest":"sha256:test"},"runs":[{"cmd":"echo hi","exit_code":0,"duration_ms":10,"stdout_sha256":"o","stderr_sha256":"e"}],"artifacts":[],"status":"success","provenance":{"model_id":"stub"}}})
}

pub async fn run(world: &World, run_id: &str) -> Value {
    world.http.get(&format!("/internal/v1/runs/{run_id}")).await.json()["run"].clone()
}

pub async fn reputation(world: &World) -> Value {
    let worker = world.http.get("/internal/v1/workers/worker:a?owner_user_id=11").await.json();
    worker["worker"]["worker"]["metadata"].clone()
}

/// What is answered without the members that only reveal more.
pub fn specified(settlement: &Value) -> Value {
    let mut settlement = settlement.clone();
    let members = settlement.as_object_mut().unwrap();
    members.retain(|name, _| !matches!(name.as_str(), "settlement_id" | "reexecution" | "dispatch_id"));
    settlement
}

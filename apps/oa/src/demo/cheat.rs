//! A SIMULATED provider that cheats: it runs nothing, says that everything went well, and makes digests up. Its
//! answers are well formed; nothing in them gives it away.

use axum::{
    Json, Router,
    routing::{get, post},
};
use oa_client::Client;
use oa_contract::{
    Nothing,
    canonical::hex,
    matrix::WorkersRegister,
    operation::Call,
    wire::{jobs::SANDBOX_RUN, workers::RegisterWorker},
};
use oa_edge::Drain;
use serde_json::{Value, json, value::to_raw_value};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::failure::Failure;

pub const NAME: &str = "cheap-and-quick";
pub const PRICE_MSATS: u64 = 90_000;

/// Serves until it is dropped.
pub struct Cheat {
    server: JoinHandle<()>,
}

impl Drop for Cheat {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Cheat {
    /// Enrols it, in the reserve pool, for somebody else.
    pub async fn start(client: &Client, id: &str, owner_user_id: u64) -> Result<Self, Failure> {
        let wrong = |error: std::io::Error| Failure::wrong(format!("no port for a provider: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(wrong)?;
        let base = format!("http://{}", listener.local_addr().map_err(wrong)?);
        let router = Router::new()
            .route("/healthz", get(|| async { "simulated" }))
            .route("/v1/sandbox_run", post(|Json(job): Json<Value>| async move { Json(invented(&job)) }));
        let server = tokio::spawn(oa_edge::serve(listener, router, Drain::new(), std::time::Duration::ZERO));
        let cheat = Cheat { server };
        let metadata = json!({
            "roles": ["client", "provider"],
            "provider_id": id,
            "provider_base_url": base,
            "capabilities": [SANDBOX_RUN],
            "min_price_msats": PRICE_MSATS,
            "reserve_pool": true,
            "caps": {"max_timeout_secs": 300},
            "simulated": true,
        });
        let body = RegisterWorker {
            worker_id: Some(format!("provider:{id}")),
            owner_user_id: Some(owner_user_id),
            adapter: Some("openagents_compute_provider".to_owned()),
            metadata: to_raw_value(&metadata).ok(),
            ..RegisterWorker::default()
        };
        let call = Call::<WorkersRegister> { path: Nothing {}, query: Nothing {}, body };
        client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
        Ok(cheat)
    }
}

/// What it claims about a job that it never ran.
fn invented(job: &Value) -> Value {
    let commands = job["commands"].as_array().cloned().unwrap_or_default();
    let made_up = |what: &str| format!("sha256:{}", hex(&Sha256::digest(what)));
    let runs: Vec<Value> = commands
        .iter()
        .map(|command| {
            json!({
                "cmd": command["cmd"], "exit_code": 0, "duration_ms": 412,
                "stdout_sha256": made_up(&format!("as if {} had said something", command["cmd"])),
                "stderr_sha256": made_up(""),
            })
        })
        .collect();
    json!({
        "env_info": {"image_digest": job["sandbox"]["image_digest"]},
        "runs": runs,
        "artifacts": [],
        "status": "success",
        "provenance": {"model_id": "simulated-cheat"},
    })
}

//! `POST /api/runtime/tools/execute` and the receipts of what it paid: over real sockets, with simulated payers,
//! shops and GitHub.

mod approve;
mod coding;
mod fetch;
mod lnd;
mod once;
mod private;
mod transactions;

use oa_testkit::{
    Engine, Http, World, WorldOptions,
    simulated::{SimulatedL402Service, SimulatedLightning, SimulatedWalletExecutor},
};
use serde_json::{Value, json};

const EXECUTE: &str = "/api/runtime/tools/execute";
/// What the shop asks for.
const PRICE_MSATS: u64 = 1_000;

/// A paywalled service, and somebody who can pay it.
struct Shop {
    lightning: SimulatedLightning,
    executor: SimulatedWalletExecutor,
    service: SimulatedL402Service,
}

impl Shop {
    async fn open() -> Self {
        let lightning = SimulatedLightning::default();
        Shop {
            executor: SimulatedWalletExecutor::start(lightning.clone()).await,
            service: SimulatedL402Service::start(lightning.clone(), PRICE_MSATS).await,
            lightning,
        }
    }

    /// A world that may pay here without approval, with these variables more.
    async fn world(&self, engine: Engine, more: &[(&'static str, &str)]) -> World {
        let mut control = self.executor.variables();
        control.push(("OA_L402_ALLOW_PRIVATE_NETWORKS", "1".into()));
        control.push(("OA_L402_REQUIRE_APPROVAL", "0".into()));
        control.push((
            "OA_INTEGRATION_SECRET_ENCRYPTION_KEY",
            "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=".into(),
        ));
        control.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await
    }

    /// A fetch that the caller lets pay by itself.
    fn fetch(&self, tool_call_id: &str) -> Value {
        json!({"tool_pack": "lightning.v1", "manifest_ref": {"integration_id": "lightning.l402"},
            "request": {"operation": "lightning_l402_fetch", "url": self.service.url("/api/answer"), "tool_call_id": tool_call_id},
            "policy": {"l402_require_approval": false, "l402_max_spend_msats_per_call": 5_000}})
    }

    /// A fetch whose price somebody has to agree to.
    fn careful_fetch(&self, tool_call_id: &str) -> Value {
        let mut fetch = self.fetch(tool_call_id);
        fetch["policy"] = json!({});
        fetch
    }
}

fn approve(task_id: &str, tool_call_id: &str) -> Value {
    json!({"tool_pack": "l402.v1", "manifest": {},
        "request": {"operation": "lightning_l402_approve", "taskId": task_id, "toolCallId": tool_call_id}})
}

/// The outcome of a call that is answered.
async fn execute(user: &Http, body: &Value) -> Value {
    let answered = user.post(EXECUTE, body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["data"].clone()
}

/// Calls at the same time.
async fn all_at_once(user: &Http, bodies: Vec<Value>) -> Vec<oa_testkit::Answered> {
    let calls = bodies.into_iter().map(|body| {
        let user = user.clone();
        tokio::spawn(async move { user.post(EXECUTE, &body).await })
    });
    futures_util::future::join_all(calls).await.into_iter().map(|answered| answered.unwrap()).collect()
}

fn words(outcome: &Value) -> (&str, &str, &str) {
    let word = |name: &str| outcome[name].as_str().unwrap_or_default();
    (word("state"), word("decision"), word("reason_code"))
}

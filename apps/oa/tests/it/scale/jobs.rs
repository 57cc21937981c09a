//! Jobs that are quoted, done and paid on whichever replica answers, so that money moves while replicas come and go.
//! The provider is SIMULATED.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use oa_testkit::{Http, simulated::SimulatedProvider};
use serde_json::{Value, json};

use super::load::Addresses;

const QUOTE: &str = "/internal/v1/marketplace/compute/quote/sandbox-run";
const DISPATCH: &str = "/internal/v1/marketplace/dispatch/sandbox-run";
const SETTLE: &str = "/internal/v1/treasury/compute/settle/sandbox-run";
const PRICE: u64 = 1_000;

pub async fn enrol(http: &Http, number: u64) -> SimulatedProvider {
    let provider = SimulatedProvider::start().await;
    let worker_id = format!("provider:{number}");
    let metadata = json!({
        "roles": ["provider"], "provider_id": worker_id, "provider_base_url": provider.url(), "reserve_pool": true,
        "capabilities": ["oa.sandbox_run.v1"], "min_price_msats": PRICE,
    });
    let body = json!({"worker_id": worker_id, "owner_user_id": 9_000 + number, "metadata": metadata});
    let enrolled = http.post("/internal/v1/workers", &body).await;
    assert_eq!(enrolled.status, 201, "{}", enrolled.text());
    provider
}

/// A settlement, as it was asked and answered.
pub struct Settled {
    pub owner: u64,
    pub asked: Value,
    pub told: Value,
}

/// One job after the other, each of an owner of its own.
pub async fn buyer(number: u64, to: Addresses, stop: Arc<AtomicBool>) -> Vec<Settled> {
    let mut settled = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let owner = 10_000 * (number + 1) + settled.len() as u64;
        settled.push(paid(&to, owner).await);
    }
    settled
}

async fn paid(to: &Addresses, owner: u64) -> Settled {
    let mut replica = owner as usize;
    let mut next = || {
        replica += 1;
        replica
    };
    let begin = json!({"owner_user_id": owner, "idempotency_key": format!("job of {owner}")});
    let run = to.insist(next(), "/internal/v1/runs", Some(&begin)).await["run"]["id"].clone();
    let request = json!({
        "sandbox": {"image_digest": "", "resources": {"timeout_secs": 1}}, "commands": [{"cmd": format!("echo {owner}")}],
    });
    let mut order = json!({"owner_user_id": owner, "request": request});
    let quote = to.insist(next(), QUOTE, Some(&order)).await["quote"].clone();
    order["run_id"] = run.clone();
    order["quote_id"] = quote["quote_id"].clone();
    order["quote_sha256"] = quote["quote_sha256"].clone();
    let dispatched = to.insist(next(), DISPATCH, Some(&order)).await;
    let provider = &dispatched["selection"]["provider"];
    let asked = json!({
        "owner_user_id": owner, "run_id": run, "provider_id": provider["provider_id"],
        "provider_worker_id": provider["worker_id"], "amount_msats": PRICE, "quote": dispatched["quote"],
        "request": request, "response": dispatched["response"],
    });
    let told = to.insist(next(), SETTLE, Some(&asked)).await;
    Settled { owner, asked, told }
}

/// Every job was paid once, whoever is asked; nothing of it stays held.
pub async fn check(to: &Addresses, settled: &[Settled]) {
    for (n, one) in settled.iter().enumerate() {
        assert_eq!(one.told["settlement_status"], "released", "{}", one.told);
        let again = to.insist(n, SETTLE, Some(&one.asked)).await;
        assert_eq!(again, one.told, "the same answer on every replica, for ever");
        let path = format!("/internal/v1/treasury/compute/summary?owner_user_id={}", one.owner);
        let summary = to.insist(n, &path, None).await;
        assert_eq!(summary["account"]["reserved_msats"], json!(0), "{summary}");
        assert_eq!(
            (&summary["released_count"], &summary["released_msats_total"]),
            (&json!(1), &json!(PRICE)),
            "{summary}"
        );
    }
}

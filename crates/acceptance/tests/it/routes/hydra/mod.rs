//! `/internal/v1/hydra/risk/health` and `/internal/v1/hydra/observability` (liquidity §11).

mod fx;

use std::time::Duration;

use oa_testkit::{Engine, World};
use serde_json::json;

use super::{
    liquidity::{executor, paying},
    runs::begin,
};

const HEALTH: &str = "/internal/v1/hydra/risk/health";
const OBSERVABILITY: &str = "/internal/v1/hydra/observability";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wallet_nothing_can_be_paid_directly() {
    let world = World::new().await;
    let told = world.http.get(HEALTH).await;
    assert_eq!(told.status, 200);
    let told = told.json();
    assert_eq!(told["schema"], "openagents.hydra.risk_health_response.v1");
    assert_eq!(
        told["credit_breakers"],
        json!({"halt_new_envelopes": false, "halt_large_settlements": false})
    );
    assert_eq!(told["liquidity"]["error_code"], "wallet_executor_not_configured");
    let wanted =
        json!({"degraded": true, "direct_disabled": true, "reasons": ["direct_liquidity_unavailable"]});
    assert_eq!(told["routing"], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_is_watched_and_not_asked() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let reachable =
        async || world.http.get(HEALTH).await.json()["liquidity"]["wallet_executor_reachable"] == true;
    for _ in 0..400 {
        if reachable().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(reachable().await);
    let told = world.http.get(HEALTH).await.json();
    assert_eq!(told["routing"], json!({"degraded": false, "direct_disabled": false, "reasons": []}));
    // What is known grows old, and then counts no more.
    executor.down();
    world.clock.advance_millis(10 * 60 * 1_000);
    let told = world.http.get(HEALTH).await.json();
    assert_eq!(told["liquidity"]["wallet_executor_reachable"], false);
    assert_eq!(told["routing"]["direct_disabled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_counted_and_outlive_the_process() {
    let world = World::new().await;
    let run = begin(&world).await;
    let candidate = |provider: &str| {
        json!({"marketplace_id": "openagents", "provider_id": provider, "total_price_msats": 1000,
            "latency_ms": 50, "reliability_bps": 9000})
    };
    let mut body = json!({"schema": "openagents.hydra.routing_score_request.v1", "idempotency_key": "k",
        "run_id": run, "marketplace_id": "openagents", "capability": "oa.liquidity.pay",
        "policy": "balanced_v1", "decided_at_unix": 1_700_000_000,
        "candidates": [candidate("route-direct"), candidate("route-cep")]});
    for key in ["a", "b"] {
        body["idempotency_key"] = json!(key);
        let scored = world.http.post("/internal/v1/hydra/routing/score", &body).await;
        assert_eq!(scored.status, 200, "{}", scored.text());
        assert_eq!(scored.json()["selected"]["provider_id"], "route-cep");
    }
    let told = world.http.get(OBSERVABILITY).await.json();
    assert_eq!(told["schema"], "openagents.hydra.observability_response.v1");
    assert_eq!(
        (told["routing"]["decision_total"].as_u64(), told["routing"]["selected_route_cep"].as_u64()),
        (Some(2), Some(2))
    );
    assert_eq!(told["fx"]["rfq_total"], 0);
    world.runtime.hydra.flush(&world.runtime.store).await.unwrap();
    let world = world.restart().await;
    let told = world.http.get(OBSERVABILITY).await.json();
    assert_eq!(told["routing"]["decision_total"], 2);
    assert!(told["withdrawal_throttle"].get("mode").is_none());
}

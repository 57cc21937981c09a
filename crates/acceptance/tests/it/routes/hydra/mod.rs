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

/// The specification's own example (§11.2): a pool that is empty and owes.
#[tokio::test(flavor = "multi_thread")]
async fn a_halted_pool_keeps_routes_from_paying_directly() {
    let runtime = |config: &mut oa_runtime::Config| {
        config.trust_mode = oa_runtime::TrustMode::Lenient;
        config.pools.lp_mode_enabled = true;
        config.pools.thresholds.stress_liability_bps = 1;
        config.pools.thresholds.halt_liability_bps = 1;
        config.pools.snapshot_pools = vec!["llp-main".into()];
    };
    let options = oa_testkit::WorldOptions { runtime: Box::new(runtime), ..Default::default() };
    let world = World::with(options).await;
    let create = json!({"schema": "openagents.liquidity.pool.create_request.v1", "operator_id": "operator:1",
        "pool_kind": "llp", "status": "active", "config": {}});
    assert_eq!(world.http.post("/internal/v1/pools/llp-main/admin/create", &create).await.status, 200);
    let leave = json!({"schema": "openagents.liquidity.pool.withdraw_request.v1", "lp_id": "lp:1",
        "idempotency_key": "w", "shares_burned": 10, "rail_preference": "onchain",
        "payout_address": "bc1qvignette000000000000000000000000000000"});
    let left = world.http.post("/internal/v1/pools/llp-main/withdraw_request", &leave).await;
    assert_eq!(left.status, 200, "{}", left.text());
    let run = begin(&world).await;
    let candidate = |provider: &str| {
        json!({"marketplace_id": "openagents", "provider_id": provider, "total_price_msats": 1000,
            "latency_ms": 50, "reliability_bps": 2000})
    };
    let asking = |key: &str, candidates: [&str; 2]| {
        json!({"schema": "openagents.hydra.routing_score_request.v1", "idempotency_key": key, "run_id": run,
            "marketplace_id": "openagents", "capability": "oa.liquidity.pay", "policy": "balanced_v1",
            "decided_at_unix": 1_700_000_000, "candidates": candidates.map(candidate)})
    };
    for (key, candidates, chosen) in [
        ("a", ["route-direct", "route-cep"], "route-cep"),
        ("b", ["route-direct", "provider-other"], "provider-other"),
    ] {
        let scored = world.http.post("/internal/v1/hydra/routing/score", &asking(key, candidates)).await;
        assert_eq!(scored.status, 200, "{}", scored.text());
        assert_eq!(scored.json()["selected"]["provider_id"], chosen);
    }
    let told = world.http.get(OBSERVABILITY).await.json();
    let routing = &told["routing"];
    for (name, wanted) in [("decision_total", 2), ("selected_route_cep", 1), ("selected_route_other", 1)] {
        assert_eq!(routing[name], wanted, "{name} of {told}");
    }
    assert!(routing["confidence_lt_040"].as_u64() >= Some(1), "{told}");
    assert_eq!(told["withdrawal_throttle"]["mode"], "halted");
    assert!(told["withdrawal_throttle"]["affected_requests_total"].as_u64() >= Some(2), "{told}");
    for (name, value) in told["fx"].as_object().unwrap() {
        assert_eq!(value.as_f64(), Some(0.0), "{name}");
    }
}

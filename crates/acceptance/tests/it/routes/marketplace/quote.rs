//! `POST …/compute/quote/sandbox-run` (marketplace §6.3), and the limit on how often one asks (§1.6).

use oa_testkit::{World, both_engines, simulated::SimulatedProvider};
use serde_json::json;

use super::{JOB, QUOTE, enrol, order, post_as, provider, registration, reserve, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_the_all_in_price_of_the_best_provider() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _single = provider(&world, "single", 11, 1000).await;
        let market = SimulatedProvider::start().await;
        let mut body = registration("market", 11, &market.url(), json!({"min_price_msats": 900}));
        body["adapter"] = json!("instance_market_adapter");
        assert_eq!(world.http.post("/internal/v1/workers", &body).await.status, 201);
        let answered = world.http.post(QUOTE, &order(11, json!({}))).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let told = answered.json();
        assert_eq!(told["job_hash"], JOB);
        assert_eq!(told["selection"]["provider"]["worker_id"], "single");
        let quote = &told["quote"];
        for (member, value) in [
            ("provider_price_msats", json!(1000)),
            ("operator_fee_msats", json!(5)),
            ("policy_adder_msats", json!(0)),
            ("total_price_msats", json!(1005)),
            ("cancel_fee_msats", json!(0)),
            ("currency", json!("msats")),
            ("objective_hash", json!(JOB)),
            ("issued_at_unix", json!(world.now().unix_seconds())),
            ("fee_components", json!([{"component": "operator_fee", "amount_msats": 5}])),
        ] {
            assert_eq!(quote[member], value, "{member}");
        }
        assert_eq!(quote["cancel_until_unix"], quote["valid_until_unix"]);
        let hash = quote["quote_sha256"].as_str().unwrap();
        assert_eq!(hash.len(), 64);
        assert_eq!(quote["quote_id"], format!("quote_{}", &hash[..16]));
        // The other one lost, and it is said why.
        let lost = &told["selection"]["considered"][1];
        assert_eq!((&lost["worker_id"], &lost["outcome"]), (&json!("market"), &json!("outranked")));
        assert_eq!(lost["reason"], "prov-single costs less: 1005 instead of 1155");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_can_do_is_not_quoted_and_nobody_is_struck_for_it() {
    let world = World::new().await;
    let limits = json!({"caps": {"max_timeout_secs": 20, "max_memory_mb": 256}});
    let small = SimulatedProvider::start().await;
    enrol(&world, "small", 11, &small.url(), limits).await;
    let refused = world.http.post(QUOTE, &order(11, json!({}))).await;
    assert_eq!(refused.status, 404);
    assert!(refused.text().contains("timeout_secs 30, and it offers 20"), "{}", refused.text());
    let priceless = SimulatedProvider::start().await;
    enrol(&world, "priceless", 12, &priceless.url(), json!({"min_price_msats": null})).await;
    let refused = world.http.post(QUOTE, &order(12, json!({}))).await;
    assert_eq!(said(&refused), (500, "unable to compute all-in quote".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_costs_its_adder() {
    let world = World::new().await;
    let _pool = reserve(&world, "pool", 999, 1500).await;
    let quote = world.http.post(QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
    assert_eq!((&quote["operator_fee_msats"], &quote["policy_adder_msats"]), (&json!(8), &json!(500)));
    assert_eq!(quote["total_price_msats"], 2008);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_the_specified_order() {
    let world = World::new().await;
    let full =
        json!({"sandbox": {"image_digest": "x", "network_policy": "full"}, "commands": [{"cmd": "true"}]});
    let refused = async |body: serde_json::Value| said(&world.http.post(QUOTE, &body).await);
    let owner = "owner_user_id or owner_guest_scope must be provided (but not both)";
    assert_eq!(refused(json!({"request": full})).await, (400, owner.into()));
    let network = "sandbox network_policy must be none in Phase 0";
    assert_eq!(refused(json!({"owner_user_id": 1, "request": full})).await, (400, network.into()));
    let unknown = json!({"owner_user_id": 1, "request": {"sandbox": {"image_digest": "x", "network_policy": "some"}, "commands": []}});
    assert_eq!(refused(unknown).await.0, 422);
    assert_eq!(refused(json!({"owner_user_id": 1})).await.0, 422);
    assert_eq!(post_as(&world, 1, QUOTE, &order(2, json!({}))).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thirty_first_call_in_a_minute_waits() {
    let world = World::new().await;
    // Calls that find nobody count too.
    for n in 0..30 {
        let path = if n % 2 == 0 { QUOTE } else { super::DISPATCH };
        assert_eq!(world.http.post(path, &order(1, json!({}))).await.status, 404);
    }
    let refused = world.http.post(QUOTE, &order(1, json!({}))).await;
    assert_eq!(said(&refused), (429, "poll interval guard triggered".into()));
    let told = refused.json();
    assert_eq!(
        (&told["error"], &told["reason_code"], &told["retry_after_ms"]),
        (&json!("rate_limited"), &json!("compute_dispatch_rate_limited"), &json!(1000))
    );
    assert_eq!(world.http.post(QUOTE, &order(2, json!({}))).await.status, 404);
    world.clock.advance_millis(60_001);
    assert_eq!(world.http.post(QUOTE, &order(1, json!({}))).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_twice_in_one_second_is_promised_two_prices() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _single = provider(&world, "single", 11, 1000).await;
        let ask = async || world.http.post(QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
        let (first, second) = (ask().await, ask().await);
        assert_ne!(first["quote_id"], second["quote_id"]);
        assert_eq!(first["total_price_msats"], second["total_price_msats"]);
        for quote in [first, second] {
            let answered = world.http.post(super::DISPATCH, &order(11, json!({"quote": quote}))).await;
            assert_eq!(answered.status, 200, "{}", answered.text());
        }
    }
}

//! `POST …/dispatch/sandbox-run` when providers do not do their work (marketplace §7.3, §17.4): who is asked next,
//! who is struck for it, and that no money stays held.

use oa_store::{
    Tx,
    tables::market_dispatches::{self, CallRow},
};
use oa_testkit::{
    World, both_engines,
    simulated::{ProviderMood, SimulatedProvider},
};
use serde_json::{Value, json};

use super::{DISPATCH, ROUTE, TELEMETRY, enrol, entry, order, provider, reserve, reserved, said};

async fn strikes(world: &World, worker_id: &str) -> u64 {
    entry(world, worker_id).await["failure_strikes"].as_u64().unwrap()
}

fn outcomes(told: &Value) -> Vec<(String, String)> {
    let text = |call: &Value, member: &str| call[member].as_str().unwrap().to_owned();
    let calls = told["calls"].as_array().unwrap();
    calls.iter().map(|call| (text(call, "worker_id"), text(call, "outcome"))).collect()
}

fn pair(worker: &str, outcome: &str) -> (String, String) {
    (worker.to_owned(), outcome.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_the_owners_own_takes_over_from_one_that_cancels() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let cheap = provider(&world, "cheap", 11, 900).await;
        let next = provider(&world, "next", 11, 1200).await;
        let pool = reserve(&world, "pool", 12, 1).await;
        cheap.set(ProviderMood::Gives("cancelled"));
        let answered = world.http.post(DISPATCH, &order(11, json!({}))).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let told = answered.json();
        assert_eq!(told["fallback_from_provider_id"], "prov-cheap");
        assert_eq!(
            (&told["selection"]["provider"]["worker_id"], &told["selection"]["tier"]),
            (&json!("next"), &json!("owned"))
        );
        assert_eq!(outcomes(&told), [pair("cheap", "cancelled"), pair("next", "success")]);
        assert_eq!((cheap.asked().len(), next.asked().len(), pool.asked().len()), (1, 1, 0));
        assert_eq!((strikes(&world, "cheap").await, strikes(&world, "next").await), (1, 0));
        assert_eq!(reserved(&world, 11).await, 1206, "only the price of the one that did it");
        let body = json!({"owner_user_id": 11, "capability": "oa.sandbox_run.v1"});
        let routed = world.http.post(ROUTE, &body).await.json();
        assert_eq!(routed["provider"]["worker_id"], "next");
        let telemetry = world.http.get(&format!("{TELEMETRY}?owner_user_id=11")).await.json();
        assert_eq!(
            (&telemetry["dispatch"]["dispatch_total"], &telemetry["dispatch"]["dispatch_fallbacks"]),
            (&json!(1), &json!(1))
        );
        // One record for each provider that was asked.
        let calls = async |tx: &mut Tx, id: &String| market_dispatches::calls(tx, id).await;
        let id = told["dispatch_id"].as_str().unwrap().to_owned();
        let calls: Vec<CallRow> = world.runtime.store.read("test.calls", id, calls).await.unwrap();
        assert_eq!(
            calls.iter().map(|call| call.outcome.as_str()).collect::<Vec<_>>(),
            ["cancelled", "success"]
        );
        assert!(calls.iter().all(|call| call.response_sha256.is_some() && call.latency_ms.is_some()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_else_a_bad_status_is_answered_and_may_be_tried_again() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        for (n, status) in ["timeout", "error", "cancelled"].into_iter().enumerate() {
            one.set(ProviderMood::Gives(status));
            let answered = world.http.post(DISPATCH, &order(11, json!({}))).await;
            assert_eq!((answered.status, &answered.json()["response"]["status"]), (200, &json!(status)));
            assert!(answered.json().get("hold").is_none());
            assert_eq!(reserved(&world, 11).await, 0);
            // One dispatch strikes one provider once, however often it is tried.
            assert_eq!(strikes(&world, "p").await, 1, "try {n}");
        }
        one.set(ProviderMood::Runs { exit_code: 0 });
        let answered = world.http.post(DISPATCH, &order(11, json!({}))).await;
        assert_eq!(answered.json()["response"]["status"], "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_is_told_and_only_the_providers_own_fault_is_a_strike() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    let huge = format!("{{\"x\":\"{}\"}}", "y".repeat(5 * 1024 * 1024));
    let elsewhere = SimulatedProvider::start().await;
    let mut struck = 0;
    for (n, (mood, status, message, strike)) in [
        (
            ProviderMood::Refuses(503, "off"),
            400,
            "provider dispatch returned 503 Service Unavailable: off",
            true,
        ),
        (
            ProviderMood::Refuses(422, "no"),
            400,
            "provider dispatch returned 422 Unprocessable Entity: no",
            false,
        ),
        (ProviderMood::HangsUp, 400, "provider dispatch failed: ", true),
        (ProviderMood::Says("{\"status\":\"success\"}".into()), 500, "parse sandbox response: ", true),
        (ProviderMood::Says(huge), 400, "provider dispatch failed: the answer is longer than", true),
        (
            ProviderMood::Redirects(format!("{}/v1/sandbox_run", elsewhere.url())),
            400,
            "provider dispatch returned 307 Temporary Redirect",
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // The fifth strike would end it.
        if struck == 4 {
            break;
        }
        one.set(mood);
        let mut request = super::job();
        request["commands"][0]["cmd"] = json!(format!("echo {n}"));
        let refused = world.http.post(DISPATCH, &order(11, json!({"request": request}))).await;
        let (said_status, said_message) = said(&refused);
        assert_eq!(said_status, status, "{said_message}");
        assert!(said_message.starts_with(message), "{said_message}");
        struck += u64::from(strike);
        assert_eq!((strikes(&world, "p").await, reserved(&world, 11).await), (struck, 0), "{message}");
    }
    let telemetry = world.http.get(&format!("{TELEMETRY}?owner_user_id=11")).await.json();
    assert_eq!(telemetry["dispatch"]["dispatch_errors"], 5);
    assert_eq!(telemetry["dispatch"]["samples"], 0);
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_a_provider_elsewhere() {
    let world = World::new().await;
    let (one, elsewhere) = (provider(&world, "p", 11, 1000).await, SimulatedProvider::start().await);
    one.set(ProviderMood::Redirects(format!("{}/v1/sandbox_run", elsewhere.url())));
    let refused = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!((refused.status, elsewhere.asked().len()), (400, 0));
    assert_eq!(refused.json()["reason_code"], "provider_status");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failed_dispatches_quarantine_a_provider() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        one.kill();
        for n in 0..5 {
            let mut request = super::job();
            request["commands"][0]["cmd"] = json!(format!("echo {n}"));
            let refused = world.http.post(DISPATCH, &order(11, json!({"request": request}))).await;
            assert_eq!(
                (refused.status, &refused.json()["reason_code"]),
                (400, &json!("provider_unreachable"))
            );
        }
        let shown = entry(&world, "p").await;
        assert_eq!(
            (&shown["quarantined"], &shown["quarantine_reason"], &shown["status"]),
            (&json!(true), &json!("provider_failures"), &json!("failed"))
        );
        let incidents = world.http.get("/internal/v1/fraud/incidents").await.json();
        assert_eq!(incidents["incidents"][0]["incident_type"], "provider_quarantined");
        assert_eq!(world.http.post(DISPATCH, &order(11, json!({}))).await.status, 404);
        // Enrolling again does not wash it off.
        one.revive().await;
        enrol(&world, "p", 11, &one.url(), json!({})).await;
        assert_eq!(world.http.post(DISPATCH, &order(11, json!({}))).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_beyond_a_providers_caps_goes_past_it_without_a_strike() {
    let world = World::new().await;
    let small = SimulatedProvider::start().await;
    let caps = json!({"min_price_msats": 1, "caps": {"max_timeout_secs": 10}});
    enrol(&world, "small", 11, &small.url(), caps).await;
    let refused = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    let large = provider(&world, "large", 11, 5000).await;
    let told = world.http.post(DISPATCH, &order(11, json!({}))).await.json();
    assert_eq!(told["selection"]["provider"]["worker_id"], "large");
    let passed = &told["selection"]["considered"][1];
    assert_eq!((&passed["worker_id"], &passed["outcome"]), (&json!("small"), &json!("ineligible")));
    assert_eq!((small.asked().len(), large.asked().len(), strikes(&world, "small").await), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promised_price_is_not_exceeded_by_whoever_takes_over() {
    let world = World::new().await;
    let cheap = provider(&world, "cheap", 11, 900).await;
    let dear = provider(&world, "dear", 11, 1200).await;
    let quote = world.http.post(super::QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
    cheap.set(ProviderMood::Refuses(500, ""));
    let refused = world.http.post(DISPATCH, &order(11, json!({"quote_id": quote["quote_id"]}))).await;
    assert_eq!((refused.status, dear.asked().len(), reserved(&world, 11).await), (400, 0, 0));
    let told = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!((told.status, dear.asked().len()), (200, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_whose_process_ended_is_taken_over_and_the_late_reply_changes_nothing() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        one.hold();
        let first = {
            let http = world.http.clone();
            tokio::spawn(async move { http.post(DISPATCH, &order(11, json!({}))).await })
        };
        while one.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(reserved(&world, 11).await, 1005);
        first.abort();
        // Long enough that whoever is at it cannot be any more.
        world.clock.advance_millis(46_000);
        world.http.post("/internal/v1/workers/p/heartbeat", &json!({"owner_user_id": 11})).await;
        let other = {
            let http = world.http.clone();
            tokio::spawn(async move { http.post(DISPATCH, &order(11, json!({}))).await })
        };
        while one.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
        one.let_go();
        let told = other.await.unwrap();
        assert_eq!(told.status, 200, "{}", told.text());
        let id = told.json()["dispatch_id"].as_str().unwrap().to_owned();
        let calls = async |tx: &mut Tx, id: &String| market_dispatches::calls(tx, id).await;
        let outcomes = loop {
            let calls: Vec<CallRow> =
                world.runtime.store.read("test.calls", id.clone(), calls).await.unwrap();
            let outcomes: Vec<String> = calls.into_iter().map(|call| call.outcome).collect();
            if outcomes[0] != "abandoned" {
                break outcomes;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(outcomes, ["late", "success"]);
        assert_eq!((one.counts(), reserved(&world, 11).await), ((1, 1), 1005));
        assert_eq!(strikes(&world, "p").await, 0);
    }
}

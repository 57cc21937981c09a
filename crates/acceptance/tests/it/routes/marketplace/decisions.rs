//! `POST …/router/compute/select` and `POST …/hydra/routing/score` (marketplace §8, §9): one event a decision, one
//! answer a key.

use oa_contract::signer;
use oa_runtime::WriteMode;
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};

use super::{QUOTE, order, post_as, provider, run_of, said};

const SELECT: &str = "/internal/v1/marketplace/router/compute/select";
const SCORE: &str = "/internal/v1/hydra/routing/score";

fn offers() -> Value {
    json!([
        {"marketplace_id": "market-a", "provider_id": "provider-a", "total_price_msats": 1200, "reliability_bps": 9000},
        {"marketplace_id": "market-b", "provider_id": "provider-b", "total_price_msats": 1100, "latency_ms": 200, "reliability_bps": 8000, "quote_id": "quote-b"}
    ])
}

fn choice(run: &str, more: Value) -> Value {
    let mut body = json!({
        "owner_user_id": 11, "run_id": run, "capability": "oa.sandbox_run.v1", "policy": "lowest_total_cost_v1",
        "idempotency_key": "router:7", "candidates": offers(),
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    body
}

fn question(run: &str, more: Value) -> Value {
    let mut body = json!({
        "schema": "openagents.hydra.routing_score_request.v1", "idempotency_key": "hydra:42", "run_id": run,
        "marketplace_id": "openagents", "capability": "oa.sandbox_run.v1", "policy": "lowest_total_cost_v1",
        "objective_hash": "sha256:objective", "decided_at_unix": 1_700_000_111,
        "candidates": [
            {"marketplace_id": "market-a", "provider_id": "provider-a", "total_price_msats": 1200, "latency_ms": 50, "reliability_bps": 9100, "constraints": {"region": "us-central1"}},
            {"marketplace_id": "market-b", "provider_id": "provider-b", "total_price_msats": 900, "latency_ms": 120, "reliability_bps": 8700}
        ],
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    body
}

async fn log(world: &World, run: &str) -> Vec<Value> {
    let told = world.http.get(&format!("/internal/v1/runs/{run}")).await.json();
    told["run"]["events"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_is_made_announced_and_written_into_the_run_once() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let run = run_of(&world, 11).await;
        let first = world.http.post(SELECT, &choice(&run, json!({}))).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let told = first.json();
        assert_eq!(told["selected"]["provider_id"], "provider-b");
        assert_eq!(told["candidates"][1]["latency_ms"], Value::Null);
        assert!(told.get("objective_hash").is_none());
        let event = &told["nostr_event"];
        let text = |member: &str| event[member].as_str().unwrap().to_owned();
        assert_eq!(event["kind"], 30_078);
        assert!(signer::verify(&text("pubkey"), &text("id"), &text("sig")));
        world.clock.advance_millis(5_000);
        let again = world.http.post(SELECT, &choice(&run, json!({}))).await;
        assert_eq!((again.status, again.json()), (200, told.clone()));
        let events = log(&world, &run).await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[1]["idempotency_key"], "router:7");
        let payload = &events[1]["payload"];
        assert_eq!(payload["receipt_type"], "RouterDecision");
        assert_eq!(payload["payload"]["decision_sha256"], told["decision_sha256"]);
        assert_eq!(payload["payload"]["nostr_event"]["id"], event["id"]);
        let other = choice(&run, json!({"policy": "reliability_first_v1"}));
        let refused = world.http.post(SELECT, &other).await;
        assert_eq!(said(&refused), (409, "idempotency key reused with different request".into()));
        assert_eq!(log(&world, &run).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_duplicates_of_a_choice_are_one_event() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let run = run_of(&world, 11).await;
        let body = choice(&run, json!({"idempotency_key": null}));
        let all = futures_util::future::join_all((0..16).map(|_| world.http.post(SELECT, &body))).await;
        let first = all[0].json();
        assert!(all.iter().all(|one| (one.status, one.json()) == (200, first.clone())));
        let events = log(&world, &run).await;
        let key = format!("router_decision:{}", first["decision_sha256"].as_str().unwrap());
        assert_eq!((events.len(), &events[1]["idempotency_key"]), (2, &json!(key)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_chooses_and_what_is_wrong_is_told() {
    let world = World::new().await;
    let run = run_of(&world, 11).await;
    let slow_and_fast = json!([
        {"marketplace_id": "m", "provider_id": "slow", "total_price_msats": 1000, "latency_ms": 800, "reliability_bps": 9000},
        {"marketplace_id": "m", "provider_id": "fast", "total_price_msats": 1300, "latency_ms": 50, "reliability_bps": 9900}
    ]);
    for (policy, best) in [("reliability_first_v1", "fast"), ("balanced_v1", "fast"), ("  ", "slow")] {
        let body =
            choice(&run, json!({"policy": policy, "idempotency_key": policy, "candidates": slow_and_fast}));
        let told = world.http.post(SELECT, &body).await;
        assert_eq!(told.json()["selected"]["provider_id"], best, "{policy}: {}", told.text());
    }
    let mut dollars = offers();
    dollars[0]["currency"] = json!("usd");
    for (more, message) in [
        (json!({"candidates": dollars}), "unsupported currency: usd"),
        (json!({"candidates": []}), "candidates must not be empty"),
        (json!({"capability": " "}), "capability must not be empty"),
        (json!({"policy": "x"}), "unsupported policy: x"),
        (
            json!({"owner_user_id": null}),
            "owner_user_id or owner_guest_scope must be provided (but not both)",
        ),
    ] {
        assert_eq!(said(&world.http.post(SELECT, &choice(&run, more)).await), (400, message.to_owned()));
    }
    assert_eq!(world.http.post(SELECT, &choice("not-a-uuid", json!({}))).await.status, 422);
    let nowhere = choice("0193a000-0000-7000-8000-000000000001", json!({}));
    assert_eq!(world.http.post(SELECT, &nowhere).await.status, 404);
    assert_eq!(log(&world, &run).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_decisions_into_somebody_elses_run() {
    let world = World::new().await;
    let run = run_of(&world, 11).await;
    let stranger = choice(&run, json!({"owner_user_id": 12}));
    assert_eq!(post_as(&world, 12, SELECT, &stranger).await.status, 404);
    assert_eq!(world.http.post(SELECT, &stranger).await.status, 404, "not even an operator mixes owners");
    assert_eq!(post_as(&world, 12, SELECT, &choice(&run, json!({}))).await.status, 403);
    assert_eq!(post_as(&world, 12, SCORE, &question(&run, json!({}))).await.status, 404);
    assert_eq!(world.http.anonymous().post(SELECT, &stranger).await.status, 401);
    assert_eq!(log(&world, &run).await.len(), 1);
    assert_eq!(post_as(&world, 11, SCORE, &question(&run, json!({}))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_of_ours_is_told_apart_from_one_that_only_says_so() {
    let world = World::new().await;
    let _one = provider(&world, "p", 11, 1000).await;
    let run = run_of(&world, 11).await;
    let quote = world.http.post(QUOTE, &order(11, json!({}))).await.json()["quote"].clone();
    let ours = |price: u64| {
        json!({"marketplace_id": "openagents", "provider_id": "prov-p", "total_price_msats": price,
            "quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]})
    };
    let body = choice(&run, json!({"candidates": [ours(1005), ours(4), offers()[1]]}));
    let told = world.http.post(SELECT, &body).await.json();
    let verified: Vec<_> =
        told["quotes"].as_array().unwrap().iter().map(|one| one["verified"].clone()).collect();
    assert_eq!(verified, [json!(false), json!(true), json!(false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_nobody_would_believe_are_seen_before_anything_is_written() {
    let strict = || WorldOptions {
        runtime: Box::new(|config| config.verifier_strict = true),
        receipt_key: None,
        ..WorldOptions::default()
    };
    let world = World::with(strict()).await;
    let run = run_of(&world, 11).await;
    for (path, body) in [(SELECT, choice(&run, json!({}))), (SCORE, question(&run, json!({})))] {
        let refused = world.http.post(path, &body).await;
        assert_eq!(said(&refused), (500, "receipt signer missing (RUNTIME_VERIFIER_STRICT=true)".into()));
    }
    assert_eq!(log(&world, &run).await.len(), 1, "nothing was written");

    let others = |config: &mut oa_runtime::Config| config.allowed_signers = vec!["00".repeat(32)];
    let world = World::with(WorldOptions { runtime: Box::new(others), ..WorldOptions::default() }).await;
    let run = run_of(&world, 11).await;
    let refused = world.http.post(SELECT, &choice(&run, json!({}))).await;
    assert_eq!(said(&refused), (500, "receipt signer pubkey is not in active key graph".into()));

    let known = |config: &mut oa_runtime::Config| {
        config.verifier_strict = true;
        config.allowed_signers =
            vec!["5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c".to_owned()];
    };
    let world = World::with(WorldOptions { runtime: Box::new(known), ..WorldOptions::default() }).await;
    let run = run_of(&world, 11).await;
    assert_eq!(world.http.post(SELECT, &choice(&run, json!({}))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_is_computed_once_and_told_again() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, receipt_key: None, ..WorldOptions::default() }).await;
        let run = run_of(&world, 11).await;
        let first = world.http.post(SCORE, &question(&run, json!({}))).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let told = first.json();
        assert_eq!(told["selected"]["provider_id"], "provider-b");
        assert_eq!(
            (&told["selected"]["constraints"], &told["selected"]["quote_id"]),
            (&json!({}), &Value::Null)
        );
        assert_eq!(told["factors"]["expected_fee_msats"], 18);
        assert_eq!(told["factors"]["policy_notes"][3], "direct_liquidity_unavailable");
        assert_eq!(told["receipt"]["canonical_json_sha256"].as_str().unwrap().len(), 64);
        assert_eq!(told["nostr_event"], json!({}));
        let again = world.http.post(SCORE, &question(&run, json!({}))).await;
        assert_eq!((again.status, again.json()), (200, told.clone()));
        let refused = world.http.post(SCORE, &question(&run, json!({"decided_at_unix": 0}))).await;
        assert_eq!(refused.status, 409);
        let events = log(&world, &run).await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[1]["payload"]["receipt_type"], "HydraRoutingDecision");
        assert_eq!(events[1]["payload"]["payload"]["receipt_id"], told["receipt"]["receipt_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_scored_is_told_why() {
    let world = World::new().await;
    let run = run_of(&world, 11).await;
    let one = |more: Value| {
        let mut offer =
            json!({"marketplace_id": "m", "provider_id": "p", "total_price_msats": 1, "reliability_bps": 1});
        for (member, value) in more.as_object().unwrap() {
            offer[member] = value.clone();
        }
        json!({"candidates": [offer]})
    };
    for (more, status, message) in [
        (json!({"idempotency_key": " "}), 400, "idempotency_key must not be empty"),
        (json!({"run_id": "x"}), 400, "run_id must be a valid UUID"),
        (json!({"capability": ""}), 400, "capability must not be empty"),
        (json!({"candidates": []}), 400, "candidates must not be empty"),
        (json!({"policy": "x"}), 400, "unsupported policy: x"),
        (one(json!({"constraints": "none"})), 400, "candidate.constraints must be an object"),
        (one(json!({"total_price_msats": 0})), 400, "candidate.total_price_msats must be greater than zero"),
        (
            one(json!({"provider_id": "route-direct"})),
            409,
            "hydra risk breakers denied all routing candidates",
        ),
    ] {
        assert_eq!(said(&world.http.post(SCORE, &question(&run, more)).await), (status, message.to_owned()));
    }
    assert_eq!(world.http.post(SCORE, &question(&run, json!({"decided_at_unix": null}))).await.status, 422);
    assert_eq!(log(&world, &run).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_neither_decides_nor_dispatches_and_still_quotes() {
    let run = "019503c1-8a6e-7f10-9c55-2b7f0c1d4e90";
    let read_only = |config: &mut oa_runtime::Config| config.write_mode = WriteMode::ReadOnly;
    let world = World::with(WorldOptions { runtime: Box::new(read_only), ..WorldOptions::default() }).await;
    let order = order(11, json!({}));
    for (path, body) in [
        (SELECT, choice(run, json!({}))),
        (SCORE, question(run, json!({}))),
        (super::DISPATCH, order.clone()),
    ] {
        let refused = world.http.post(path, &body).await;
        assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("write_path_frozen")), "{path}");
    }
    // A quote moves no money and asks nobody; here there is no provider to quote.
    assert_eq!(world.http.post(QUOTE, &order).await.status, 404);
}

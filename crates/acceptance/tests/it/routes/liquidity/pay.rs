//! `POST /internal/v1/liquidity/pay`: once, whatever the wallet says or does not say (liquidity §4.2, §17.2).

use std::time::Duration;

use oa_testkit::{Answered, Engine, World, both_engines, simulated::ExecutorMood};
use serde_json::json;

use super::{PAY, executor, pay, paying, quoted};
use crate::routes::marketplace::post_as;

/// Asks until it is answered with 200; the background asks the wallet as the clock goes on.
async fn until_told(world: &World, quote_id: &str) -> Answered {
    for _ in 0..400 {
        let answered = world.http.post(PAY, &pay(quote_id)).await;
        if answered.status == 200 {
            return answered;
        }
        assert_eq!(answered.status, 409, "{}", answered.text());
        assert_eq!(answered.json()["message"], "payment already in flight for quote_id");
        world.clock.advance_millis(5_000);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{quote_id} never ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_and_its_receipt_is_the_same_for_ever() {
    for engine in both_engines() {
        let executor = executor().await;
        let world = paying(engine, &executor).await;
        let quote_id = quoted(&world, &executor, "k").await;
        let first = world.http.post(PAY, &pay(&quote_id)).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let told = first.json();
        assert_eq!(
            (told["status"].as_str(), told["receipt"]["fee_msats"].as_u64()),
            (Some("succeeded"), Some(3))
        );
        assert_eq!(told["payment_proof"]["result"]["requestId"], format!("liqpay:{quote_id}"));
        assert!(told["receipt"]["signature"]["signature_hex"].is_string());
        let world = world.restart().await;
        world.clock.advance_millis(86_400_000);
        assert_eq!(world.http.post(PAY, &pay(&quote_id)).await.json(), told);
        assert_eq!((executor.asked_to_pay(), executor.lightning.payments()), (1, 1));
        let other =
            json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote_id, "run_id": "r"});
        let refused = world.http.post(PAY, &other).await;
        assert_eq!(
            (refused.status, refused.json()["message"].as_str()),
            (409, Some("quote_id reused with different pay context"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_is_refused_in_the_specified_words() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let quote_id = quoted(&world, &executor, "k").await;
    let schema = json!({"schema": "x", "quote_id": quote_id});
    for (body, status, message) in [
        (schema, 400, "schema must be openagents.liquidity.pay_request.v1"),
        (pay(" "), 400, "quote_id is required"),
    ] {
        let refused = world.http.post(PAY, &body).await;
        assert_eq!((refused.status, refused.json()["message"].as_str()), (status, Some(message)));
    }
    let missing = world.http.post(PAY, &pay("liq_quote_none")).await;
    assert_eq!((missing.status, missing.json()["error"].as_str()), (404, Some("not_found")));
    world.clock.advance_millis(60_001);
    let late = world.http.post(PAY, &pay(&quote_id)).await;
    assert_eq!((late.status, late.json()["message"].as_str()), (400, Some("quote expired")));
    assert_eq!(executor.asked_to_pay(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_pays_and_does_not_say_so_is_asked_and_pays_once() {
    for mood in [ExecutorMood::PaysSilently, ExecutorMood::PaysAndCuts] {
        let executor = executor().await;
        let world = paying(Engine::Sqlite, &executor).await;
        let quote_id = quoted(&world, &executor, "k").await;
        executor.become_(mood);
        assert_eq!(world.http.post(PAY, &pay(&quote_id)).await.status, 409);
        // Also when the process was another one meanwhile.
        let world = world.restart().await;
        let told = until_told(&world, &quote_id).await.json();
        assert_eq!(told["status"], "succeeded");
        assert_eq!(executor.lightning.payments(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final_and_a_lie_is_no_proof() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let refused = quoted(&world, &executor, "a").await;
    executor.become_(ExecutorMood::Refuses(500, "wallet_fail"));
    let told = world.http.post(PAY, &pay(&refused)).await;
    assert_eq!((told.status, told.json()["status"].as_str()), (200, Some("failed")));
    assert_eq!(told.json()["error_code"], "wallet_fail");
    assert_eq!(told.json()["payment_proof"]["error"]["message"], "simulated");
    executor.become_(ExecutorMood::Good);
    assert_eq!(world.http.post(PAY, &pay(&refused)).await.json()["status"], "failed");
    let lied = quoted(&world, &executor, "b").await;
    executor.become_(ExecutorMood::Lies);
    assert_eq!(world.http.post(PAY, &pay(&lied)).await.status, 409);
    // This executor keeps no deadlines, so that it has not heard of the payment proves nothing.
    world.clock.advance_millis(600_000);
    assert_eq!(world.http.post(PAY, &pay(&lied)).await.status, 409);
    let resolve = format!("/admin/v1/liquidity/payments/{lied}/resolve");
    let body = json!({"idempotency_key": "r", "outcome": "failed", "reason": "its node has no such payment"});
    let resolved = world.http.post(&resolve, &body).await;
    assert_eq!((resolved.status, &resolved.json()["status"]), (200, &json!("failed")), "{}", resolved.text());
    assert_eq!(world.http.post(&resolve, &body).await.json(), resolved.json());
    let told = until_told(&world, &lied).await.json();
    assert_eq!((told["status"].as_str(), executor.lightning.payments()), (Some("failed"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_down_has_surely_not_paid() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let quote_id = quoted(&world, &executor, "k").await;
    executor.down();
    let told = world.http.post(PAY, &pay(&quote_id)).await;
    assert_eq!(
        (told.status, told.json()["error_code"].as_str()),
        (200, Some("wallet_executor_transport_error"))
    );
    assert!(told.json().get("payment_proof").is_none());
    let again = world.http.post(PAY, &pay(&quote_id)).await.json();
    assert_eq!(again["payment_proof"]["schema"], "openagents.liquidity.payment_proof_placeholder.v1");
    assert_eq!(again["receipt"], told.json()["receipt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pays_of_one_quote_are_one_payment() {
    let executor = executor().await;
    let world = paying(Engine::Sqlite, &executor).await;
    let quote_id = quoted(&world, &executor, "k").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (http, body) = (world.http.clone(), pay(&quote_id));
        asking.spawn(async move { http.post(PAY, &body).await.status });
    }
    while let Some(status) = asking.join_next().await {
        assert!(matches!(status.unwrap(), 200 | 409));
    }
    assert_eq!((executor.asked_to_pay(), executor.lightning.payments()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_for_a_run_is_held_by_every_budget_around_it() {
    for engine in both_engines() {
        let executor = executor().await;
        let world = paying(engine, &executor).await;
        let limit = json!({"owner_user_id": 11, "organisation": "acme", "limit_msats": 51_999});
        assert_eq!(world.http.post("/admin/v1/budgets", &limit).await.status, 200);
        let begin = async |owner: u64, metadata: serde_json::Value| {
            let begun = post_as(&world, owner, "/internal/v1/runs", &json!({"metadata": metadata})).await;
            assert_eq!(begun.status, 201, "{}", begun.text());
            begun.json()["run"]["id"].as_str().unwrap().to_owned()
        };
        let within = begin(11, json!({"budget": {"organisation": "acme"}})).await;
        let strangers = begin(12, json!({})).await;
        let order = |quote_id: &str, run: &str| json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote_id, "run_id": run});
        let quote_id = quoted(&world, &executor, "k").await;
        let unknown = world.http.post(PAY, &order(&quote_id, &strangers)).await;
        assert_eq!(unknown.status, 404, "{}", unknown.text());
        // 42 sats and at most 10 for the way: one msat more than the organisation has.
        let refused = world.http.post(PAY, &order(&quote_id, &within)).await;
        assert_eq!((refused.status, refused.json()["message"].as_str()), (403, Some("insufficient budget")));
        assert_eq!(executor.asked_to_pay(), 0);
        let mut more = limit.clone();
        more["limit_msats"] = json!(52_000);
        assert_eq!(world.http.post("/admin/v1/budgets", &more).await.status, 200);
        let paid = world.http.post(PAY, &order(&quote_id, &within)).await;
        assert_eq!(paid.json()["status"], "succeeded", "{}", paid.text());
        let listed = world.http.get("/admin/v1/budgets?owner_user_id=11").await.json();
        let all = listed["budgets"].as_array().unwrap().clone();
        let acme = all.into_iter().find(|one| one["organisation"] == "acme").unwrap();
        assert_eq!(acme["spent_msats"], 42_003);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_end_payments() {
    let world = World::new().await;
    let body = json!({"idempotency_key": "r", "outcome": "failed", "reason": "so I say"});
    for path in ["/admin/v1/liquidity/payments/x/resolve", "/admin/v1/pools/p/withdrawals/w/resolve"] {
        assert_eq!(post_as(&world, 11, path, &body).await.status, 403, "{path}");
        assert_eq!(world.http.anonymous().post(path, &body).await.status, 401, "{path}");
        assert_eq!(world.http.post(path, &body).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_pays_nothing() {
    let runtime = |config: &mut oa_runtime::Config| config.write_mode = oa_runtime::WriteMode::ReadOnly;
    let options = oa_testkit::WorldOptions { runtime: Box::new(runtime), ..Default::default() };
    let world = World::with(options).await;
    let refused = world.http.post(PAY, &pay("x")).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (503, Some("write_path_frozen")));
}

//! `lightning_l402_fetch`: every outcome of the specification's table, and what each of them costs.

use oa_testkit::{
    Engine, both_engines,
    simulated::{ExecutorMood, L402Mood as Mood},
};
use serde_json::{Value, json};

use super::{EXECUTE, PRICE_MSATS, Shop, all_at_once, execute, words};

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_is_paid_once_and_what_was_bought_is_used_again() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let paid = execute(&user, &shop.fetch("t1")).await;
        assert_eq!(words(&paid), ("succeeded", "allowed", "paid_fetch_completed"));
        assert_eq!(
            paid["policy"],
            json!({"requireApproval": false, "maxSpendMsatsPerCall": 5_000, "maxSpendMsatsPerDay": 1_000_000, "allowedHosts": []})
        );
        let result = &paid["result"];
        assert_eq!((&result["host"], &result["scope"]), (&json!("127.0.0.1"), &json!("/api/answer")));
        assert_eq!(
            (&result["quotedAmountMsats"], &result["maxSpendMsats"]),
            (&json!(PRICE_MSATS), &json!(5_000))
        );
        assert_eq!(result["response"]["body"], json!({"ok": true}));
        assert!(result["payment"]["proofReference"].as_str().unwrap().starts_with("preimage:"));
        assert_eq!(
            paid["request"]["thread_id"].as_str().unwrap(),
            format!("thread_tools_{}", &paid["receipt"]["replay_hash"].as_str().unwrap()[7..23])
        );
        assert!(shop.service.last_header("authorization").unwrap().starts_with("L402 "));
        assert_eq!(execute(&user, &shop.fetch("t1")).await["idempotentReplay"], true);
        let cached = execute(&user, &shop.fetch("t2")).await;
        assert_eq!(words(&cached), ("succeeded", "allowed", "cached_fetch_completed"));
        assert_eq!((shop.lightning.payments(), shop.executor.seeds_seen()), (1, 0));
        let stranger = world.sign_in("other@example.com").await;
        assert_eq!(execute(&stranger, &shop.fetch("t1")).await["reason_code"], "paid_fetch_completed");
        assert_eq!(shop.lightning.payments(), 2, "a credential is its buyer's alone");
        world.clock.advance_millis(600_000);
        assert_eq!(execute(&user, &shop.fetch("t3")).await["reason_code"], "paid_fetch_completed");
        assert_eq!(shop.lightning.payments(), 3, "a credential ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_expired_is_fetched_again_and_the_first_moment_stays() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let first = execute(&world.sign_in("dev@example.com").await, &shop.fetch("t1")).await;
    world.clock.advance_millis(86_400_000);
    let second = execute(&world.sign_in("dev@example.com").await, &shop.fetch("t1")).await;
    assert_eq!((&second["idempotentReplay"], &second["receipt"]), (&json!(false), &first["receipt"]));
    assert_eq!(shop.lightning.payments(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_without_a_payment_has_its_words() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let with = |id: &str, member: &str, value: Value| {
        let mut body = shop.fetch(id);
        body["policy"][member] = value;
        body
    };
    let denied = execute(&user, &with("hosts", "l402_allowed_hosts", json!(["Sats4AI.com"]))).await;
    assert_eq!(words(&denied), ("blocked", "denied", "policy_denied.host_not_allowed"));
    assert_eq!(
        denied["result"],
        json!({"blocked": true, "host": "127.0.0.1", "allowedHosts": ["sats4ai.com"]})
    );
    assert_eq!(denied["error"]["code"], "policy_denied.host_not_allowed");
    let dear = execute(&user, &with("cap", "l402_max_spend_msats_per_call", json!(999))).await;
    assert_eq!(words(&dear), ("blocked", "denied", "policy_denied.max_spend_per_call_exceeded"));
    assert_eq!(dear["result"]["maxSpendMsats"], 999);
    let mut request_cap = shop.fetch("request cap");
    request_cap["request"]["max_spend_msats"] = json!("500");
    assert_eq!(execute(&user, &request_cap).await["result"]["maxSpendMsats"], 500);
    let day = execute(&user, &with("day", "l402_max_spend_msats_per_day", json!(999))).await;
    assert_eq!(words(&day), ("blocked", "denied", "policy_denied.max_spend_per_day_exceeded"));
    assert_eq!(
        (&day["result"]["spentMsatsToday"], &day["result"]["projectedMsatsToday"]),
        (&json!(0), &json!(1_000))
    );
    let approval = execute(&user, &shop.careful_fetch("approval")).await;
    assert_eq!(words(&approval), ("blocked", "approval_requested", "approval_required"));
    assert!(approval.get("error").is_none());
    assert_eq!(
        approval["result"]["taskId"].as_str().unwrap(),
        format!("l402tsk_{}", &approval["receipt"]["replay_hash"].as_str().unwrap()[7..31])
    );
    for (mood, wanted, again) in [
        (Mood::Free, ("succeeded", "allowed", "fetch_completed_without_challenge"), true),
        (Mood::Status(404), ("failed", "failed", "fetch_failed"), true),
        (Mood::Status(503), ("failed", "failed", "fetch_failed"), false),
        (Mood::Status(302), ("failed", "failed", "fetch_failed"), true),
        (Mood::Mute, ("failed", "failed", "l402_challenge_missing"), false),
        (Mood::FalseInvoice, ("failed", "failed", "l402_invoice_invalid"), false),
        (Mood::OldInvoice, ("failed", "failed", "l402_invoice_invalid"), false),
    ] {
        let body = shop.fetch(&format!("{mood:?}"));
        shop.service.become_(mood);
        assert_eq!(words(&execute(&user, &body).await), wanted);
        assert_eq!(execute(&user, &body).await["idempotentReplay"], again, "{wanted:?}");
    }
    assert_eq!(shop.lightning.payments(), 0);
    shop.service.become_(Mood::Long(2 * 1024 * 1024));
    assert_eq!(user.post(EXECUTE, &shop.fetch("long")).await.status, 502);
    shop.service.down();
    let gone = user.post(EXECUTE, &shop.fetch("down")).await;
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (502, &json!("service_unavailable")));
    shop.service.up().await;
    shop.service.become_(Mood::Free);
    assert_eq!(
        execute(&user, &shop.fetch("down")).await["idempotentReplay"],
        false,
        "an HTTP error is not kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_leave_every_payment_needs_approval() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[("OA_L402_REQUIRE_APPROVAL", "1")]).await;
    let user = world.sign_in("dev@example.com").await;
    let outcome = execute(&user, &shop.fetch("t1")).await;
    assert_eq!(
        (&outcome["reason_code"], &outcome["policy"]["requireApproval"]),
        (&json!("approval_required"), &json!(true))
    );
    shop.service.asks(100_001);
    let mut greedy = shop.fetch("t2");
    greedy["policy"]["l402_max_spend_msats_per_call"] = json!(1_000_000);
    let outcome = execute(&user, &greedy).await;
    assert_eq!(outcome["reason_code"], "policy_denied.max_spend_per_call_exceeded");
    assert_eq!(
        outcome["policy"]["maxSpendMsatsPerCall"], 100_000,
        "the caller cannot raise the service's cap"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_refuses_is_told_as_it_is_and_may_be_asked_again() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.executor.become_(ExecutorMood::Refuses(402, "insufficient_balance"));
    let failed = execute(&user, &shop.fetch("t1")).await;
    assert_eq!(words(&failed), ("failed", "failed", "invoice_pay_failed"));
    assert_eq!(failed["error"], json!({"code": "insufficient_balance", "message": "simulated"}));
    assert_eq!(failed["result"]["paymentBackend"], "spark_wallet");
    shop.executor.become_(ExecutorMood::Good);
    assert_eq!(execute(&user, &shop.fetch("t1")).await["reason_code"], "paid_fetch_completed");
    assert_eq!(shop.lightning.payments(), 1);
    shop.executor.down();
    let mut other = shop.fetch("t2");
    other["request"]["url"] = json!(shop.service.url("/other"));
    assert_eq!(user.post(EXECUTE, &other).await.status, 503);
    shop.executor.up().await;
    assert_eq!(execute(&user, &other).await["reason_code"], "paid_fetch_completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_and_then_refused_is_not_paid_again() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.service.become_(Mood::TakesAndRefuses(500));
    assert_eq!(words(&execute(&user, &shop.fetch("t1")).await), ("failed", "failed", "paid_fetch_failed"));
    shop.service.become_(Mood::TakesAndCuts);
    assert_eq!(user.post(EXECUTE, &shop.fetch("t1")).await.status, 502);
    shop.service.become_(Mood::Priced);
    assert_eq!(execute(&user, &shop.fetch("t1")).await["reason_code"], "paid_fetch_completed");
    assert_eq!((shop.lightning.payments(), shop.service.challenged()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_something_else_is_no_proof() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.executor.become_(ExecutorMood::Lies);
    let outcome = execute(&user, &shop.fetch("t1")).await;
    assert_eq!(words(&outcome), ("blocked", "failed", "invoice_payment_unknown"));
    assert_eq!((&outcome["error"]["code"], shop.service.served()), (&json!("preimage_mismatch"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_do_not_exceed_the_day() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[("OA_L402_MAX_SPEND_MSATS_PER_DAY", "2500")]).await;
        let user = world.sign_in("dev@example.com").await;
        let bodies = (0..8).map(|n| {
            let mut body = shop.fetch(&format!("t{n}"));
            body["request"]["url"] = json!(shop.service.url(&format!("/page/{n}")));
            body
        });
        let answered = all_at_once(&user, bodies.collect()).await;
        let count =
            |reason: &str| answered.iter().filter(|one| one.json()["data"]["reason_code"] == reason).count();
        assert_eq!(count("paid_fetch_completed"), 2);
        assert_eq!(count("policy_denied.max_spend_per_day_exceeded"), 6);
        assert_eq!(shop.lightning.payments(), 2);
        world.clock.advance_millis(86_400_000);
        let user = world.sign_in("dev@example.com").await;
        let mut tomorrow = shop.fetch("tomorrow");
        tomorrow["request"]["url"] = json!(shop.service.url("/tomorrow"));
        assert_eq!(execute(&user, &tomorrow).await["reason_code"], "paid_fetch_completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leniently_the_callers_word_and_the_prefix_of_the_invoice_are_believed() {
    let shop = Shop::open().await;
    let lenient = [("OA_TRUST_MODE", "lenient"), ("OA_L402_REQUIRE_APPROVAL", "")];
    let world = shop.world(Engine::Sqlite, &lenient).await;
    let user = world.sign_in("dev@example.com").await;
    shop.service.become_(Mood::FalseInvoice);
    shop.executor.become_(ExecutorMood::Lies);
    let outcome = execute(&user, &shop.fetch("t1")).await;
    assert_eq!(words(&outcome), ("failed", "failed", "paid_fetch_failed"));
    assert_eq!(
        outcome["policy"],
        json!({"requireApproval": false, "maxSpendMsatsPerCall": 5_000, "maxSpendMsatsPerDay": null, "allowedHosts": []})
    );
    assert_eq!(outcome["result"]["quotedAmountMsats"], PRICE_MSATS);
    assert_eq!(
        outcome["result"]["payment"],
        json!({"paymentId": "p", "proofReference": "preimage:abababababababab"})
    );
}

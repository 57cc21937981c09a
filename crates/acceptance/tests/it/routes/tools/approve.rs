//! `lightning_l402_approve`: an approval is used up by a payment that succeeded, and by nothing else.

use oa_testkit::{Engine, Http, both_engines, simulated::ExecutorMood};
use serde_json::{Value, json};

use super::{EXECUTE, Shop, all_at_once, approve, execute, words};

async fn task(user: &Http, shop: &Shop, id: &str) -> String {
    let outcome = execute(user, &shop.careful_fetch(id)).await;
    assert_eq!(outcome["reason_code"], "approval_required");
    outcome["result"]["taskId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_pays_and_fetches_and_says_later_that_it_did() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let task = task(&user, &shop, "t").await;
        let paid = execute(&user, &approve(&task, "a")).await;
        assert_eq!(words(&paid), ("succeeded", "allowed", "paid_fetch_completed"));
        assert_eq!((&paid["tool_pack"], &paid["request"]["task_id"]), (&json!("lightning.v1"), &json!(task)));
        assert_eq!(execute(&user, &approve(&task, "a")).await["idempotentReplay"], true);
        let again = execute(&user, &approve(&task, "b")).await;
        assert_eq!(words(&again), ("succeeded", "allowed", "approval_already_executed"));
        assert_eq!(again["result"], paid["result"]);
        assert_eq!((shop.lightning.payments(), shop.service.served()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_not_told_that_the_task_is_there() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let task = task(&user, &shop, "t").await;
    let stranger = world.sign_in("other@example.com").await;
    let theirs = stranger.post(EXECUTE, &approve(&task, "a")).await;
    let nobodys = stranger.post(EXECUTE, &approve("l402tsk_nothing", "a")).await;
    assert_eq!((theirs.status, nobodys.status), (404, 404));
    assert_eq!(theirs.json()["error"], nobodys.json()["error"]);
    assert_eq!(shop.lightning.payments(), 0);
    let blank = user.post(EXECUTE, &approve(" ", "a")).await;
    assert!(blank.json()["errors"]["request.task_id"].is_array());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_comes_too_late_pays_nothing() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let late = task(&user, &shop, "t").await;
    world.clock.advance_millis(30 * 60_000);
    let outcome = execute(&user, &approve(&late, "a")).await;
    assert_eq!(words(&outcome), ("blocked", "denied", "approval_task_expired"));
    assert_eq!(
        outcome["result"],
        json!({"taskId": late, "status": "expired", "host": "127.0.0.1", "scope": "/api/answer"})
    );
    let fresh = task(&user, &shop, "t").await;
    assert_ne!(fresh, late, "the same fetch asks for a new price");
    assert_eq!(execute(&user, &approve(&fresh, "a")).await["reason_code"], "paid_fetch_completed");
    assert_eq!(shop.lightning.payments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_fails_leaves_the_approval_to_be_tried_again() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let task = task(&user, &shop, "t").await;
        shop.executor.down();
        for seed in ["a", "b"] {
            let answered = user.post(EXECUTE, &approve(&task, seed)).await;
            assert_eq!(answered.status, 503, "{}", answered.text());
        }
        shop.executor.up().await;
        shop.executor.become_(ExecutorMood::Refuses(502, "prepare_failed"));
        for seed in ["a", "b"] {
            let failed = execute(&user, &approve(&task, seed)).await;
            assert_eq!(words(&failed), ("failed", "failed", "invoice_pay_failed"));
            assert_eq!(failed["error"]["code"], "prepare_failed");
        }
        shop.executor.become_(ExecutorMood::Good);
        assert_eq!(execute(&user, &approve(&task, "b")).await["reason_code"], "paid_fetch_completed");
        assert_eq!(execute(&user, &approve(&task, "a")).await["reason_code"], "approval_already_executed");
        assert_eq!(shop.lightning.payments(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_is_late_is_asked_again_and_pays_once() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let task = task(&user, &shop, "t").await;
    shop.executor.become_(ExecutorMood::PaysSilently);
    shop.executor.tells(false);
    for seed in ["a", "b", "a"] {
        let unknown = execute(&user, &approve(&task, seed)).await;
        assert_eq!(words(&unknown), ("blocked", "failed", "invoice_payment_unknown"));
    }
    world.clock.advance_millis(40 * 60_000);
    let still = execute(&user, &approve(&task, "a")).await;
    assert_eq!(still["reason_code"], "invoice_payment_unknown", "no timer ends it, not even the task's");
    shop.executor.tells(true);
    let known = execute(&user, &approve(&task, "a")).await;
    assert_eq!(words(&known), ("succeeded", "allowed", "paid_fetch_completed"));
    assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_approvals_of_one_task_are_one_payment() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let task = task(&user, &shop, "t").await;
        let bodies: Vec<Value> = (0..16).map(|n| approve(&task, &format!("a{n}"))).collect();
        let answered = all_at_once(&user, bodies).await;
        let count =
            |reason: &str| answered.iter().filter(|one| one.json()["data"]["reason_code"] == reason).count();
        assert_eq!((count("paid_fetch_completed"), count("approval_already_executed")), (1, 15));
        assert_eq!(shop.lightning.payments(), 1);
    }
}

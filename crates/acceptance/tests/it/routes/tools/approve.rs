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
async fn payer_down_approve_payer_up_approve_is_one_payment_and_the_first_answer_claims_nothing() {
    for engine in both_engines() {
        for seed in ["the same", "another"] {
            let shop = Shop::open().await;
            let world = shop.world(engine, &[]).await;
            let user = world.sign_in("dev@example.com").await;
            let task = task(&user, &shop, "t").await;
            shop.executor.down();
            let first = user.post(EXECUTE, &approve(&task, "the same")).await;
            assert_eq!((first.status, &first.json()["error"]["code"]), (503, &json!("service_unavailable")));
            assert!(first.json().get("data").is_none() && !first.text().contains("succeeded"));
            assert_eq!((shop.lightning.payments(), shop.service.served()), (0, 0));
            // Even after a restart, the task stands where it stood.
            let world = world.restart().await;
            let user = world.sign_in("dev@example.com").await;
            shop.executor.up().await;
            let second = execute(&user, &approve(&task, seed)).await;
            assert_eq!(words(&second), ("succeeded", "allowed", "paid_fetch_completed"));
            assert_eq!(second["idempotentReplay"], false);
            let third = execute(&user, &approve(&task, "a third")).await;
            assert_eq!(words(&third), ("succeeded", "allowed", "approval_already_executed"));
            assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_duplicates_of_one_approval_pay_once() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let task = task(&user, &shop, "t").await;
        let answered = all_at_once(&user, vec![approve(&task, "a"); 32]).await;
        let outcomes: Vec<_> = answered.iter().map(|one| one.json()["data"].clone()).collect();
        assert!(outcomes.iter().all(|one| one["reason_code"] == "paid_fetch_completed"));
        assert_eq!(outcomes.iter().filter(|one| one["idempotentReplay"] == false).count(), 1);
        assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_at_the_last_moment_all_pay_once_or_all_come_too_late() {
    for late in [false, true] {
        let shop = Shop::open().await;
        let world = shop.world(Engine::Sqlite, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let task = task(&user, &shop, "t").await;
        world.clock.advance_millis(30 * 60_000 - i64::from(!late));
        // Ticking past the end while they are under way.
        let ticking = {
            let clock = world.clock.clone();
            tokio::spawn(async move { clock.advance_millis(1) })
        };
        let bodies: Vec<Value> = (0..8).map(|n| approve(&task, &format!("a{n}"))).collect();
        let answered = all_at_once(&user, bodies).await;
        ticking.await.unwrap();
        let reasons: Vec<String> = answered
            .iter()
            .map(|one| one.json()["data"]["reason_code"].as_str().unwrap_or_default().to_owned())
            .collect();
        let paid = reasons.iter().filter(|reason| *reason == "paid_fetch_completed").count();
        let expired = reasons.iter().filter(|reason| *reason == "approval_task_expired").count();
        assert!(paid == 1 && expired == 0 || paid == 0 && expired == 8, "{reasons:?}");
        assert!(!late || paid == 0);
        assert_eq!(shop.lightning.payments() as usize, paid);
    }
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

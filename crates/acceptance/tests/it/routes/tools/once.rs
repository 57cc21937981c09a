//! One call, one effect: in parallel, across a payer's silence, and across a crash between paying and recording.

use oa_testkit::{Engine, both_engines, simulated::ExecutorMood};
use serde_json::json;

use super::{EXECUTE, Shop, all_at_once, execute, words};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_parallel_duplicates_pay_once() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        let answered = all_at_once(&user, vec![shop.fetch("t1"); 32]).await;
        let outcomes: Vec<_> = answered.iter().map(|one| one.json()["data"].clone()).collect();
        let fresh = outcomes.iter().filter(|one| one["idempotentReplay"] == false).count();
        assert_eq!(fresh, 1);
        assert!(outcomes.iter().all(|one| one["result"] == outcomes[0]["result"]));
        assert_eq!(words(&outcomes[0]).2, "paid_fetch_completed");
        assert_eq!(
            (shop.lightning.payments(), shop.executor.asked_to_pay(), shop.service.served()),
            (1, 1, 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_looked_up_and_not_paid_for_again() {
    for mood in [ExecutorMood::PaysSilently, ExecutorMood::PaysAndCuts] {
        let shop = Shop::open().await;
        let world = shop.world(Engine::Sqlite, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        shop.executor.become_(mood);
        let unknown = execute(&user, &shop.fetch("t1")).await;
        assert_eq!(words(&unknown), ("blocked", "failed", "invoice_payment_unknown"));
        assert_eq!(unknown["idempotentReplay"], false);
        let known = execute(&user, &shop.fetch("t1")).await;
        assert_eq!(words(&known), ("succeeded", "allowed", "paid_fetch_completed"));
        assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_payer_never_heard_of_is_paid_after_all() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.executor.become_(ExecutorMood::Garbage);
    assert_eq!(execute(&user, &shop.fetch("t1")).await["reason_code"], "invoice_payment_unknown");
    shop.executor.become_(ExecutorMood::Good);
    assert_eq!(execute(&user, &shop.fetch("t1")).await["reason_code"], "paid_fetch_completed");
    assert_eq!(shop.lightning.payments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_payments_are_asked_about_in_the_background() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.executor.become_(ExecutorMood::PaysSilently);
    execute(&user, &shop.fetch("t1")).await;
    assert_eq!(world.control.tools().settle_open_payments().await.unwrap(), 0, "it is too fresh");
    world.clock.advance_millis(61_000);
    assert_eq!(world.control.tools().settle_open_payments().await.unwrap(), 1);
    world.clock.advance_millis(61_000);
    assert_eq!(world.control.tools().settle_open_payments().await.unwrap(), 0);
    let other = execute(&user, &shop.fetch("t2")).await;
    assert_eq!(other["reason_code"], "cached_fetch_completed", "what was found out to be bought is used");
    assert_eq!(shop.lightning.payments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_paying_and_recording_pays_nothing_twice() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let patient = [("SPARK_EXECUTOR_TIMEOUT_MS", "60000"), ("OA_TOOLS_WAIT_MS", "100")];
        let world = shop.world(engine, &patient).await;
        let user = world.sign_in("dev@example.com").await;
        shop.executor.become_(ExecutorMood::PaysSilently);
        let body = shop.fetch("t1");
        let asking = tokio::spawn({
            let (user, body) = (user.clone(), body.clone());
            async move { user.post(EXECUTE, &body).await }
        });
        shop.executor.has_paid().await;
        let told = asking.await.unwrap();
        assert_eq!(told.status, 409, "{}", told.text());
        assert_eq!(told.json()["error"]["code"], "conflict");
        let world = world.restart().await;
        shop.executor.become_(ExecutorMood::Good);
        world.clock.advance_millis(61_000);
        let user = world.sign_in("dev@example.com").await;
        let mut outcome = user.post(EXECUTE, &body).await;
        while outcome.status == 409 {
            outcome = user.post(EXECUTE, &body).await;
        }
        let outcome = outcome.json()["data"].clone();
        assert_eq!(words(&outcome), ("succeeded", "allowed", "paid_fetch_completed"));
        assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
        let listed = user.get("/api/l402/transactions").await.json();
        assert_eq!(listed["data"]["transactions"].as_array().unwrap().len(), 1);
        let spent = json!({"spent": listed["data"]["transactions"][0]["amountMsats"]});
        assert_eq!(spent, json!({"spent": 1_000}));
    }
}

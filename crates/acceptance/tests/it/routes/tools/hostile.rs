//! What is malformed is refused by its field and changes nothing; what is only odd is carried out as it stands.

use oa_testkit::{
    Answered, Engine, Http, both_engines,
    simulated::{ExecutorMood, L402Mood},
};
use serde_json::{Value, json};

use super::{EXECUTE, Shop, all_at_once, approve, execute, words};

async fn raw(user: &Http, body: impl Into<Vec<u8>>) -> Answered {
    user.send("POST", EXECUTE, &[("content-type", "application/json")], Some(body.into())).await
}

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_none_is_refused() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let with = |request: &str| {
        format!(
            r#"{{"tool_pack":"coding.v1","manifest":{{}},"request":{{"operation":"get_issue",{request}}}}}"#
        )
    };
    for body in [
        String::new(),
        "null".into(),
        "[]".into(),
        "{".into(),
        deep(10_000),
        with(&format!("\"body\":{}", deep(100_000))),
        with("\"issue_number\":NaN"),
        with("\"issue_number\":Infinity"),
        with("\"issue_number\":1e999"),
        with("\"body\":\"\\ud800\""),
        with("\"body\":\"\u{1}\""),
        with("\"body\":1}{"),
        r#"{"tool_pack":"coding.v1","toolPack":"lightning.v1","manifest":{},"request":{}}"#.into(),
    ] {
        let refused = raw(&user, body.clone()).await;
        let start: String = body.chars().take(80).collect();
        assert!((400..=422).contains(&refused.status), "{start}: {} {}", refused.status, refused.text());
        assert!(refused.json()["error"]["code"].is_string(), "{start}");
    }
    assert!((400..=422).contains(&raw(&user, b"{\"tool_pack\":\"\xff\"}".to_vec()).await.status));
    assert_eq!(user.get("/api/l402/transactions").await.json()["data"]["transactions"], json!([]));
    let huge = with(&format!("\"body\":\"{}\"", "x".repeat(3 * 1024 * 1024)));
    assert_eq!(raw(&user, huge).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_none_is_refused_by_its_name() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let long = "\u{1f9a6}".repeat(161);
    for (pointer, value, field) in [
        ("/request/max_spend_msats", json!(-1), "request.max_spend_msats"),
        ("/request/max_spend_msats", json!(0.5), "request.max_spend_msats"),
        ("/request/maxSpendMsats", json!("18446744073709551616"), "request.max_spend_msats"),
        ("/request/timeout_ms", json!(-1), "request.timeout_ms"),
        ("/request/require_approval", json!("perhaps"), "request.require_approval"),
        ("/request/url", json!("http://user:secret@example.com/"), "request.url"),
        ("/request/url", json!("http://user@example.com/"), "request.url"),
        ("/request/url", json!("http://exa mple.com/"), "request.url"),
        ("/request/url", json!("http://\u{0}example.com/"), "request.url"),
        ("/request/url", json!("http://example.com:99999/"), "request.url"),
        ("/request/url", json!(["http://example.com/"]), "request.url"),
        ("/request/url", json!(format!("http://example.com/{}", "x".repeat(4_096))), "request.url"),
        ("/request/method", json!("GET / HTTP/1.1\r\nx: y"), "request.method"),
        ("/request/method", json!("CONNECT"), "request.method"),
        ("/request/headers", json!({"x": "a\r\nhost: b"}), "request.headers"),
        ("/request/headers", json!({"x": "a\u{0}"}), "request.headers"),
        ("/request/headers", json!({"x": "\u{7f}"}), "request.headers"),
        ("/request/headers", json!({"x": "\u{85}"}), "request.headers"),
        ("/request/headers", json!({"x\r\ny": "a"}), "request.headers"),
        ("/request/headers", json!({"x:y": "a"}), "request.headers"),
        ("/request/headers", json!({"\u{fc}": "a"}), "request.headers"),
        ("/request/headers", json!({"x": {"y": "a"}}), "request.headers"),
        ("/request/scope", json!("s".repeat(301)), "request.scope"),
        ("/request/scope", json!("a\u{0}b"), "request.scope"),
        ("/request/tool_call_id", json!("t\u{0}"), "request.tool_call_id"),
        ("/request/autopilot_id", json!(long), "request.autopilot_id"),
        ("/request/operation", json!("lightning_l402_fetch\u{0}"), "request.operation"),
        ("/policy/l402_max_spend_msats_per_call", json!(-5), "policy.l402_max_spend_msats_per_call"),
        ("/policy/l402MaxSpendMsatsPerDay", json!(1.5), "policy.l402_max_spend_msats_per_day"),
        ("/policy/l402_allowed_hosts", json!("example.com"), "policy.l402_allowed_hosts"),
        ("/policy/l402_allowed_hosts", json!([{}]), "policy.l402_allowed_hosts"),
        ("/run_id", json!(long), "run_id"),
        ("/thread_id", json!("t\u{0}"), "thread_id"),
    ] {
        let mut body = shop.fetch("t");
        let (place, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(place).unwrap()[name] = value.clone();
        let refused = user.post(EXECUTE, &body).await;
        assert_eq!(refused.status, 422, "{pointer} {value}: {}", refused.text());
        assert!(refused.json()["errors"][field].is_array(), "{pointer} {value}: {}", refused.text());
    }
    assert_eq!((shop.service.challenged(), shop.lightning.payments()), (0, 0));
    assert_eq!(user.get("/api/l402/transactions").await.json()["data"]["transactions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_odd_is_carried_out_on_both_engines() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        // A path that is as long as it may be, and that nothing can shorten.
        let mut noise = 7_u64;
        let path: String = (0..3_900)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::try_from(noise >> 59).unwrap()])
            })
            .collect();
        let mut body = shop.fetch("\u{202e}\u{1f9a6}");
        body["request"]["url"] = json!(shop.service.url(&format!("/{path}")));
        body["request"]["method"] = json!("post");
        body["request"]["body"] = serde_json::from_str(&deep(100)).unwrap();
        body["request"]["headers"] = json!({"X-Odd": "\u{e9}", "Host": "evil.example", "Transfer-Encoding": "chunked", "AUTHORIZATION": "L402 a:b"});
        body["request"]["timeout_ms"] = json!(u64::MAX);
        body["request"]["autopilot_id"] = json!("\u{e9}".repeat(160));
        body["run_id"] = json!("\u{1f9a6}".repeat(160));
        body["manifest_ref"]["nul"] = json!("\u{0}");
        body["manifest_ref"]["huge"] = json!(1e300);
        let paid = execute(&user, &body).await;
        assert_eq!(words(&paid).2, "paid_fetch_completed", "{paid}");
        assert!(shop.service.last_header("host").unwrap().starts_with("127.0.0.1:"));
        body["request"]["tool_call_id"] = json!("again");
        assert_eq!(execute(&user, &body).await["reason_code"], "cached_fetch_completed");
        let listed = user.get("/api/l402/transactions").await.json();
        assert_eq!(listed["data"]["transactions"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_of_two_owners_is_two_calls_and_each_is_paid_once() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let one = world.sign_in("one@example.com").await;
        let two = world.sign_in("two@example.com").await;
        let body = shop.fetch("the same");
        let (ones, twos) = tokio::join!(
            all_at_once(&one, vec![body.clone(); 16]),
            all_at_once(&two, vec![body.clone(); 16])
        );
        for answered in [&ones, &twos] {
            let data: Vec<Value> = answered.iter().map(|answer| answer.json()["data"].clone()).collect();
            assert!(data.iter().all(|one| one["reason_code"] == "paid_fetch_completed"));
            assert_eq!(data.iter().filter(|one| one["idempotentReplay"] == false).count(), 1);
        }
        assert_ne!(ones[0].json()["data"]["receipt"], twos[0].json()["data"]["receipt"]);
        assert_eq!(shop.lightning.payments(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_amount_the_payer_names_the_payment_is_written_down() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        shop.executor.become_(ExecutorMood::Exaggerates);
        assert_eq!(execute(&user, &shop.fetch("t")).await["reason_code"], "paid_fetch_completed");
        let mut other = shop.fetch("u");
        other["request"]["url"] = json!(shop.service.url("/other"));
        let over = execute(&user, &other).await;
        assert_eq!(over["reason_code"], "policy_denied.max_spend_per_day_exceeded");
        assert_eq!(shop.lightning.payments(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_goes_on_where_a_crash_left_it_even_after_its_time() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let patient = [("SPARK_EXECUTOR_TIMEOUT_MS", "60000"), ("OA_TOOLS_WAIT_MS", "100")];
        let world = shop.world(engine, &patient).await;
        let user = world.sign_in("dev@example.com").await;
        let asked = execute(&user, &shop.careful_fetch("t")).await;
        let task = asked["result"]["taskId"].as_str().unwrap().to_owned();
        shop.executor.become_(ExecutorMood::PaysSilently);
        let asking = tokio::spawn({
            let (user, body) = (user.clone(), approve(&task, "a"));
            async move { user.post(EXECUTE, &body).await }
        });
        shop.executor.has_paid().await;
        assert_eq!(asking.await.unwrap().status, 409);
        let world = world.restart().await;
        shop.executor.become_(ExecutorMood::Good);
        world.clock.advance_millis(31 * 60_000);
        let user = world.sign_in("dev@example.com").await;
        // The price was agreed to and paid in time; that the answer was lost changes nothing of it.
        let mut outcome = user.post(EXECUTE, &approve(&task, "b")).await;
        while outcome.status == 409 {
            outcome = user.post(EXECUTE, &approve(&task, "b")).await;
        }
        assert_eq!(words(&outcome.json()["data"]), ("succeeded", "allowed", "paid_fetch_completed"));
        let again = execute(&user, &approve(&task, "c")).await;
        assert_eq!(again["reason_code"], "approval_already_executed");
        assert_eq!((shop.lightning.payments(), shop.executor.asked_to_pay()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_for_ever_is_paid_once_a_call_and_never_beyond_the_day() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[("OA_L402_MAX_SPEND_MSATS_PER_DAY", "3000")]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.service.become_(L402Mood::TakesAndRefuses(402));
    for _ in 0..4 {
        let outcome = execute(&user, &shop.fetch("t")).await;
        assert_eq!(words(&outcome), ("failed", "failed", "paid_fetch_failed"));
    }
    assert_eq!(shop.lightning.payments(), 1);
    for n in 0..6 {
        execute(&user, &shop.fetch(&format!("u{n}"))).await;
    }
    assert!(shop.lightning.payments() <= 3, "{}", shop.lightning.payments());
}

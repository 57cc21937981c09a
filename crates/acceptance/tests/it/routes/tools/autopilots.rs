//! What the owner of an autopilot says of it holds for every call that is made for it, whatever the call says.

use oa_testkit::{Engine, Http, both_engines};
use serde_json::{Value, json};

use super::{EXECUTE, Shop, approve, execute, words};

const DENIED: &str = "policy_denied.capability_not_allowed";

/// A new autopilot with this policy: its id.
async fn autopilot(user: &Http, handle: &str, policy: Value) -> String {
    let made = user.post("/api/autopilots", &json!({"handle": handle, "policy": policy})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["data"]["id"].as_str().unwrap().to_owned()
}

/// A thread that is bound to an autopilot: its id.
async fn thread(user: &Http, autopilot: &str) -> String {
    let made = user.post(&format!("/api/autopilots/{autopilot}/threads"), &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["data"]["id"].as_str().unwrap().to_owned()
}

fn for_(mut body: Value, autopilot: &str) -> Value {
    body["request"]["autopilot_id"] = json!(autopilot);
    body
}

/// A fetch of a page that nobody has paid for yet.
fn page(shop: &Shop, number: u32) -> Value {
    let mut body = shop.fetch(&format!("t{number}"));
    body["request"]["url"] = json!(shop.service.url(&format!("/page/{number}")));
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strictest_of_the_caller_the_autopilot_and_the_service_holds() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[("OA_L402_MAX_SPEND_MSATS_PER_CALL", "4000")]).await;
        let user = world.sign_in("dev@example.com").await;
        let tight = json!({"l402RequireApproval": true, "l402MaxSpendMsatsPerCall": 2_000,
            "l402MaxSpendMsatsPerDay": 1_500, "l402AllowedHosts": [" 127.0.0.1 "]});
        autopilot(&user, "tight", tight).await;
        let loose = json!({"l402RequireApproval": false, "l402MaxSpendMsatsPerCall": 9_000_000});
        autopilot(&user, "loose", loose).await;
        let held = execute(&user, &for_(page(&shop, 1), "tight")).await;
        assert_eq!(words(&held), ("blocked", "approval_requested", "approval_required"));
        assert_eq!(
            held["policy"],
            json!({"requireApproval": true, "maxSpendMsatsPerCall": 2_000, "maxSpendMsatsPerDay": 1_500, "allowedHosts": ["127.0.0.1"]})
        );
        let waved = {
            let mut body = for_(page(&shop, 2), "tight");
            body["request"]["require_approval"] = json!(false);
            body["policy"]["l402_max_spend_msats_per_day"] = json!(1_000_000);
            execute(&user, &body).await
        };
        assert_eq!(waved["reason_code"], "approval_required", "a caller cannot loosen");
        let paid = execute(&user, &for_(page(&shop, 3), "loose")).await;
        assert_eq!(words(&paid).2, "paid_fetch_completed");
        assert_eq!(paid["policy"]["maxSpendMsatsPerCall"], 4_000, "nor does an autopilot");
        let mut careful = for_(page(&shop, 4), "loose");
        careful["policy"] = json!({"l402_max_spend_msats_per_call": 7});
        assert_eq!(execute(&user, &careful).await["result"]["maxSpendMsats"], 7);
        assert_eq!(shop.lightning.payments(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_counted_for_the_autopilot_under_whatever_name_it_is_called() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let id = autopilot(&user, "scout", json!({"l402MaxSpendMsatsPerDay": 2_500})).await;
    let bound = thread(&user, "scout").await;
    assert_eq!(execute(&user, &for_(page(&shop, 1), &id)).await["reason_code"], "paid_fetch_completed");
    assert_eq!(execute(&user, &for_(page(&shop, 2), "Scout")).await["reason_code"], "paid_fetch_completed");
    let mut through_the_thread = page(&shop, 3);
    through_the_thread["thread_id"] = json!(bound);
    let mut inside = page(&shop, 4);
    inside["request"]["thread_id"] = json!(bound);
    for body in [for_(page(&shop, 5), "scout"), through_the_thread.clone(), inside] {
        let over = execute(&user, &body).await;
        assert_eq!(words(&over), ("blocked", "denied", "policy_denied.max_spend_per_day_exceeded"));
        assert_eq!(over["result"]["spentMsatsToday"], 2_000);
    }
    let other = autopilot(&user, "other", json!({})).await;
    for named in [other.as_str(), "nobody"] {
        let refused = user.post(EXECUTE, &for_(through_the_thread.clone(), named)).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.json()["errors"]["request.autopilot_id"].is_array());
    }
    let listed = user.get("/api/l402/transactions?autopilot=scout").await.json();
    assert_eq!(listed["data"]["transactions"].as_array().unwrap().len(), 5);
    assert_eq!(listed["data"]["transactions"][0]["autopilotId"], json!(id));
    assert_eq!(execute(&user, &page(&shop, 6)).await["reason_code"], "paid_fetch_completed");
    let stranger = world.sign_in("other@example.com").await;
    let theirs = execute(&stranger, &for_(page(&shop, 7), &id)).await;
    assert_eq!(theirs["reason_code"], "paid_fetch_completed", "somebody else's autopilot is only a name");
    assert_eq!(theirs["policy"]["maxSpendMsatsPerDay"], 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_held_to_the_policy_of_the_autopilot_that_asked() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    let policy = json!({"l402RequireApproval": true, "l402MaxSpendMsatsPerDay": 1_500});
    let id = autopilot(&user, "scout", policy).await;
    let mut tasks = Vec::new();
    for number in 1..=2 {
        let asked = execute(&user, &for_(page(&shop, number), "scout")).await;
        tasks.push(asked["result"]["taskId"].as_str().unwrap().to_owned());
    }
    assert_eq!(execute(&user, &approve(&tasks[0], "a")).await["reason_code"], "paid_fetch_completed");
    let over = execute(&user, &approve(&tasks[1], "b")).await;
    assert_eq!(over["reason_code"], "policy_denied.max_spend_per_day_exceeded");
    assert_eq!(over["policy"]["maxSpendMsatsPerDay"], 1_500);
    let listed = user.get(&format!("/api/l402/transactions?autopilot={id}")).await.json();
    assert_eq!(listed["data"]["transactions"].as_array().unwrap().len(), 4);
    assert_eq!(shop.lightning.payments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_are_kept_from_an_autopilot_do_nothing_for_it() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    autopilot(&user, "reader", json!({"toolAllowlist": ["get_issue"]})).await;
    autopilot(&user, "mute", json!({"toolDenylist": ["add_issue_comment", "lightning_l402_approve"]})).await;
    let code = |operation: &str, autopilot: &str| {
        json!({"tool_pack": "coding.v1", "manifest": {}, "request": {"integration_id": "github.primary",
            "operation": operation, "repository": "acme/widgets", "issueNumber": 1, "pullNumber": 1,
            "body": "hi", "autopilotId": autopilot}})
    };
    for (operation, autopilot, reason) in [
        ("get_issue", "reader", "policy_allowed.default"),
        ("get_pull_request", "reader", DENIED),
        ("add_issue_comment", "mute", DENIED),
        ("get_pull_request", "mute", "policy_allowed.default"),
    ] {
        let outcome = execute(&user, &code(operation, autopilot)).await;
        assert_eq!(outcome["reason_code"], reason, "{operation} for {autopilot}");
        if reason == DENIED {
            assert_eq!(words(&outcome), ("blocked", "denied", DENIED));
            assert_eq!(outcome["error"]["code"], "policy_denied");
        }
    }
    let denied = execute(&user, &for_(page(&shop, 1), "reader")).await;
    assert_eq!(words(&denied), ("blocked", "denied", DENIED));
    assert_eq!((&denied["error"]["code"], shop.service.challenged()), (&json!(DENIED), 0));
    let mut careful = for_(shop.careful_fetch("t"), "mute");
    careful["request"]["url"] = json!(shop.service.url("/page/9"));
    let task = execute(&user, &careful).await["result"]["taskId"].as_str().unwrap().to_owned();
    let itself = execute(&user, &for_(approve(&task, "a"), "mute")).await;
    assert_eq!(words(&itself), ("blocked", "denied", DENIED), "an autopilot does not agree to its own price");
    assert_eq!(execute(&user, &approve(&task, "a")).await["reason_code"], "paid_fetch_completed");
    assert_eq!(shop.lightning.payments(), 1);
}

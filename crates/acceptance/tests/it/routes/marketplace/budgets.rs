//! Budgets of organisations, repositories and issues bound the work that is done for them: in all of them or in none.

use oa_testkit::{Answered, World, both_engines};
use serde_json::{Value, json};

use super::{DISPATCH, order, post_as, provider, reserved};

const BUDGETS: &str = "/admin/v1/budgets";

async fn limit(world: &World, organisation: &str, repo: Option<&str>, msats: u64) {
    let body = json!({"owner_user_id": 11, "organisation": organisation, "repo": repo, "limit_msats": msats});
    let answered = world.http.post(BUDGETS, &body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
}

/// Reserved and spent at a level.
async fn used(world: &World, level: &str) -> (Value, Value) {
    let listed = world.http.get(&format!("{BUDGETS}?owner_user_id=11")).await.json();
    let budgets = listed["budgets"].as_array().unwrap().clone();
    let one = budgets.into_iter().find(|one| one["level"] == level).expect("the budget");
    (one["reserved_msats"].clone(), one["spent_msats"].clone())
}

async fn begin(world: &World, budget: Value) -> String {
    let body = json!({"metadata": {"budget": budget}});
    let answered = post_as(world, 11, "/internal/v1/runs", &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    answered.json()["run"]["id"].as_str().unwrap().to_owned()
}

fn settlement(run: &str, told: &Value, more: Value) -> Value {
    let provider = &told["selection"]["provider"];
    let mut body = json!({
        "run_id": run, "provider_id": provider["provider_id"], "provider_worker_id": provider["worker_id"],
        "amount_msats": told["quote"]["provider_price_msats"], "response": told["response"],
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    order(11, body)
}

const SETTLE: &str = "/internal/v1/treasury/compute/settle/sandbox-run";

#[tokio::test(flavor = "multi_thread")]
async fn work_is_bounded_by_every_budget_that_its_run_names() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        limit(&world, "acme", None, 1004).await;
        limit(&world, "acme", Some("site"), 5000).await;
        let run = begin(&world, json!({"organisation": "acme", "repo": "site", "issue": "12"})).await;
        let refused = world.http.post(DISPATCH, &order(11, json!({"run_id": run}))).await;
        let said = refused.json();
        assert_eq!((refused.status, &said["message"]), (403, &json!("insufficient budget")));
        assert_eq!(
            (&said["reason_code"], &said["remaining_msats"], &said["needed_msats"]),
            (&json!("budget_exceeded"), &json!(1004), &json!(1005))
        );
        assert!(said["budget"].as_str().unwrap().contains("organisation/acme"), "{said}");
        // Nothing was held anywhere, and nobody was called.
        assert_eq!((one.asked().len(), reserved(&world, 11).await), (0, 0));
        assert_eq!(used(&world, "repo").await, (json!(0), json!(0)));

        limit(&world, "acme", None, 1005).await;
        let done = world.http.post(DISPATCH, &order(11, json!({"run_id": run}))).await;
        assert_eq!(done.status, 200, "{}", done.text());
        for level in ["organisation", "repo"] {
            assert_eq!(used(&world, level).await, (json!(1005), json!(0)), "{level}");
        }
        let settled = world.http.post(SETTLE, &settlement(&run, &done.json(), json!({}))).await;
        assert_eq!(settled.json()["settlement_status"], "released", "{}", settled.text());
        for level in ["organisation", "repo"] {
            assert_eq!(used(&world, level).await, (json!(0), json!(1005)), "{level}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_name_them_and_contradicts_nobody() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let one = provider(&world, "p", 11, 1000).await;
        limit(&world, "acme", None, 1005).await;
        let ask = async |more: Value| -> Answered { world.http.post(DISPATCH, &order(11, more)).await };
        let run = begin(&world, json!({"organisation": "other"})).await;
        for wrong in [
            json!({"repo": "site"}),
            json!({"organisation": "a\u{0}b"}),
            json!({"run_id": run, "organisation": "acme"}),
        ] {
            let answered = ask(wrong.clone()).await;
            assert_eq!(answered.status, 400, "{wrong}: {}", answered.text());
        }
        assert_eq!((one.asked().len(), reserved(&world, 11).await), (0, 0));
        let done = ask(json!({"organisation": "acme"})).await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(used(&world, "organisation").await, (json!(1005), json!(0)));
        // The second one is too much for the organisation, not for the owner.
        let second = ask(json!({"organisation": "acme", "attempt": 2})).await;
        assert_eq!((second.status, &second.json()["remaining_msats"]), (403, &json!(0)));
        assert_eq!(ask(json!({"attempt": 2})).await.status, 200);

        // A settlement that comes after its hold has ended holds anew, where it was dispatched.
        let run = begin(&world, json!(null)).await;
        world.clock.advance_millis(3_600_001);
        while reserved(&world, 11).await > 0 {
            tokio::task::yield_now().await;
        }
        let settled = world.http.post(SETTLE, &settlement(&run, &done.json(), json!({}))).await;
        assert_eq!(settled.status, 200, "{}", settled.text());
        assert_eq!(used(&world, "organisation").await, (json!(0), json!(1005)));
    }
}

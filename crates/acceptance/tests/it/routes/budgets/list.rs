//! What an operator reads of budgets is what the ledger holds.

use oa_testkit::{World, both_engines};
use serde_json::json;

use super::{PATH, pay, reserve};

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_s_default_budget_counts_what_is_spent_without_any_setting() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        reserve(&world, "a", 700).await.unwrap();
        reserve(&world, "b", 50).await.unwrap();
        pay(&world, "a", 600).await;
        let listed = world.http.get(&format!("{PATH}?owner_user_id=11")).await.json();
        assert_eq!(
            listed,
            json!({"schema": "openagents.treasury.budget_list.v1", "budgets": [{
                "owner_key": "user:11", "level": "owner", "limit_msats": 10_000_000_000_u64,
                "reserved_msats": 50, "spent_msats": 600, "remaining_msats": 9_999_999_350_u64}]})
        );
        assert_eq!(world.http.get(PATH).await.json()["budgets"], json!([]), "nobody has set one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_read_page_by_page() {
    let world = World::new().await;
    for n in 0..5 {
        let body = json!({"owner_user_id": n % 2, "organisation": format!("o{n}"), "limit_msats": n});
        assert_eq!(world.http.post(PATH, &body).await.status, 200);
    }
    let mut seen = Vec::new();
    let mut path = format!("{PATH}?limit=2");
    loop {
        let page = world.http.get(&path).await.json();
        let budgets = page["budgets"].as_array().unwrap();
        assert!(budgets.len() <= 2);
        seen.extend(budgets.iter().map(|budget| budget["organisation"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_i64() else { break };
        path = format!("{PATH}?limit=2&before={next}");
    }
    assert_eq!(seen, ["o4", "o3", "o2", "o1", "o0"]);
    assert_eq!(world.http.get(&format!("{PATH}?limit=x")).await.status, 400);
    assert_eq!(world.http.get(&format!("{PATH}?owner_user_id=1&owner_guest_scope=lab")).await.status, 400);
}

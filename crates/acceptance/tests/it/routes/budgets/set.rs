//! A budget that was set holds from the next reservation on, and never lies about what is used.

use oa_runtime::WriteMode;
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

use super::{PATH, pay, reserve};

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_bounds_what_is_reserved_within_it() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let body = json!({"owner_user_id": 11, "organisation": "acme", "repo": "site", "limit_msats": 1_000});
        let answered = world.http.post(PATH, &body).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let set_at = answered.json()["budget"]["set_at"].clone();
        assert_eq!(
            answered.json(),
            json!({"schema": "openagents.treasury.budget.v1", "budget": {
                "owner_key": "user:11", "level": "repo", "organisation": "acme", "repo": "site",
                "limit_msats": 1_000, "reserved_msats": 0, "spent_msats": 0, "remaining_msats": 1_000,
                "set_at": set_at, "changed_at": set_at}})
        );
        reserve(&world, "a", 700).await.unwrap();
        let refused = reserve(&world, "b", 301).await.expect_err("too much");
        assert_eq!(refused.to_string(), "forbidden: insufficient budget");
        reserve(&world, "c", 300).await.unwrap();
        pay(&world, "a", 650).await;
        let lower = world
            .http
            .post(
                PATH,
                &json!({"owner_user_id": 11, "organisation": "acme", "repo": "site", "limit_msats": 949}),
            )
            .await;
        assert_eq!((lower.status, &lower.json()["error"]), (409, &json!("conflict")));
        let said = lower.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(said, "a limit must be at least 950, which is spent and reserved already");
        let world = world.restart().await;
        let exact = world
            .http
            .post(
                PATH,
                &json!({"owner_user_id": 11, "organisation": "acme", "repo": "site", "limit_msats": 950}),
            )
            .await;
        let budget = &exact.json()["budget"];
        assert_eq!(
            (&budget["spent_msats"], &budget["reserved_msats"], &budget["remaining_msats"]),
            (&json!(650), &json!(300), &json!(0))
        );
        assert!(reserve(&world, "d", 1).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_at_one_time_are_answered_alike() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let body = json!({"owner_guest_scope": "lab", "limit_msats": 77, "idempotency_key": "once"});
        let all = futures_util::future::join_all((0..16).map(|_| world.http.post(PATH, &body))).await;
        let first = all[0].json();
        assert_eq!(first["budget"]["level"], "owner", "{first}");
        for answered in &all {
            assert_eq!((answered.status, answered.json()), (200, first.clone()));
        }
        let other = json!({"owner_guest_scope": "lab", "limit_msats": 78, "idempotency_key": "once"});
        assert_eq!(world.http.post(PATH, &other).await.status, 409);
        let listed = world.http.get(&format!("{PATH}?owner_guest_scope=lab")).await.json();
        assert_eq!(listed["budgets"], json!([first["budget"]]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_amount_or_names_no_budget_changes_nothing() {
    let world = World::new().await;
    for limit in
        [json!(-1), json!(1.5), json!(1e3), json!("5"), json!(null), json!(2_100_000_000_000_000_001_u64)]
    {
        let answered = world.http.post(PATH, &json!({"owner_user_id": 1, "limit_msats": limit})).await;
        assert!((400..500).contains(&answered.status), "{limit}: {}", answered.text());
    }
    let wrong = [
        json!({"limit_msats": 1}),
        json!({"owner_user_id": 1, "owner_guest_scope": "lab", "limit_msats": 1}),
        json!({"owner_user_id": 1, "repo": "site", "limit_msats": 1}),
        json!({"owner_user_id": 1, "organisation": "a\u{0}b", "limit_msats": 1}),
        json!({"owner_user_id": 1, "organisation": "x".repeat(129), "limit_msats": 1}),
        json!({"owner_guest_scope": "x".repeat(5_000), "limit_msats": 1}),
    ];
    for body in wrong {
        let answered = world.http.post(PATH, &body).await;
        assert_eq!(answered.status, 400, "{body}: {}", answered.text());
    }
    assert_eq!(world.http.get(PATH).await.json()["budgets"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_instance_sets_none() {
    let read_only = WorldOptions {
        runtime: Box::new(|config| config.write_mode = WriteMode::ReadOnly),
        ..WorldOptions::default()
    };
    let world = World::with(read_only).await;
    let answered = world.http.post(PATH, &json!({"owner_user_id": 1, "limit_msats": 1})).await;
    assert_eq!((answered.status, &answered.json()["error"]), (503, &json!("write_path_frozen")));
    assert_eq!(world.http.get(PATH).await.status, 200);
}

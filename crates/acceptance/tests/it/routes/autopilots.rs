//! `/api/autopilots` (control §19): personal agents, their handles, and the threads that are bound to them.

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_autopilots() {
    for engine in both_engines() {
        let control = vec![("OA_AUTOPILOTS_MAX", "2".to_owned())];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
        for (http, handle, status) in
            [(&user, "a", 201), (&user, "b", 201), (&user, "c", 409), (&other, "c", 201)]
        {
            let answered = http.post("/api/autopilots", &json!({"handle": handle})).await;
            assert_eq!(answered.status, status, "{engine:?} {handle}: {}", answered.text());
            assert_eq!(answered.text().contains("OA_AUTOPILOTS_MAX"), status == 409);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autopilot_is_made_listed_and_found_by_id_or_handle_by_its_owner_only() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
        let body = json!({"handle": "Scout", "displayName": "Scout", "tagline": "Looks ahead", "visibility": "public",
            "policy": {"toolDenylist": ["shell"], "l402MaxSpendMsatsPerCall": 100_000, "l402RequireApproval": true}});
        let made = user.post("/api/autopilots", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json()["data"].clone();
        assert_eq!((&made["handle"], &made["status"]), (&json!("scout"), &json!("active")));
        assert_eq!(made["policy"], body["policy"], "{engine:?}");
        assert_eq!(user.get("/api/autopilots").await.json()["data"], json!([made]));
        assert_eq!(other.get("/api/autopilots").await.json()["data"], json!([]));
        let again = user.post("/api/autopilots", &json!({"handle": "scout"})).await;
        assert_eq!(
            (again.status, again.json()["error"]["code"].as_str()),
            (409, Some("conflict")),
            "{engine:?}"
        );
        assert_eq!(other.post("/api/autopilots", &json!({"handle": "scout"})).await.status, 201);

        let world = world.restart().await;
        let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
        let id = made["id"].as_str().expect("an id");
        let thread = user.post("/api/autopilots/scout/threads", &json!({"title": " Find a bug "})).await;
        assert_eq!(thread.status, 201, "{}", thread.text());
        let thread = thread.json()["data"].clone();
        assert_eq!((&thread["title"], &thread["autopilotId"]), (&json!("Find a bug"), &json!(id)));
        for named in [id, "scout", "SCOUT"] {
            let listed = user.get(&format!("/api/autopilots/{named}/threads")).await;
            assert_eq!(listed.json()["data"], json!([thread]), "{engine:?} {named}");
        }
        assert_eq!(other.get(&format!("/api/autopilots/{id}/threads")).await.status, 404);
        assert_eq!(other.post(&format!("/api/autopilots/{id}/threads"), &json!({})).await.status, 404);
        assert_eq!(other.get("/api/autopilots/scout/threads").await.json()["data"], json!([]));
        assert_eq!(user.get("/api/autopilots/nobody/threads").await.status, 404);
        let long = user.post("/api/autopilots/scout/threads", &json!({"title": "x".repeat(201)})).await;
        assert!(long.status == 422 && long.json()["errors"]["title"].is_array());
        let shown = user.get("/api/chats").await.json()["data"][0].clone();
        assert_eq!(shown, thread, "the thread is a conversation like others");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_autopilots_without_a_handle_get_one_each_and_pages_hold_all_of_them() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let user = user.clone();
            tasks.spawn(async move { user.post("/api/autopilots", &json!({"displayName": "Scout"})).await });
        }
        assert!(tasks.join_all().await.iter().all(|made| made.status == 201), "{engine:?}");
        let (mut handles, mut path) = (Vec::new(), "/api/autopilots?limit=3".to_owned());
        loop {
            let page = user.get(&path).await.json();
            let data = page["data"].as_array().expect("a page");
            handles.extend(data.iter().map(|one| one["handle"].as_str().unwrap_or_default().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/autopilots?limit=3&before={next}");
        }
        handles.sort();
        let wanted: Vec<String> = std::iter::once("scout".to_owned())
            .chain((2..=8).map(|number| format!("scout-{number}")))
            .collect();
        assert_eq!(handles, wanted, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_autopilot_is_refused_under_its_field_and_leaves_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (body, field) in [
        (json!({"handle": "not a handle"}), "handle"),
        (json!({"displayName": "x".repeat(121)}), "displayName"),
        (json!({"status": "asleep"}), "status"),
        (json!({"visibility": 1}), ""),
        (json!({"policy": {"l402MaxSpendMsatsPerDay": -1}}), ""),
        (json!({"policy": {"toolAllowlist": [""]}}), "policy.toolAllowlist"),
        (json!({"displayName": "a\u{0}b"}), ""),
    ] {
        let refused = user.post("/api/autopilots", &body).await;
        assert_eq!(refused.status, 422, "{body}: {}", refused.text());
        assert!(
            field.is_empty() || refused.json()["errors"][field].is_array(),
            "{field}: {}",
            refused.text()
        );
    }
    assert_eq!(user.get("/api/autopilots").await.json()["data"], json!([]));
    assert_eq!(user.get("/api/autopilots?before=x").await.status, 422);
    assert_eq!(user.get("/api/autopilots?limit=x").await.status, 400);
    let many: Value = user.get("/api/autopilots?limit=100000").await.json();
    assert_eq!(many["data"], json!([]));
}

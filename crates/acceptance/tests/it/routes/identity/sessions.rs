//! `GET /api/auth/sessions`, `POST /api/auth/sessions/revoke` and their aliases (control §5.4).

use futures_util::future::join;
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::{Value, json};

use super::{sign_in_on, text, token_of};

const LIST: [&str; 2] = ["/api/auth/sessions", "/api/v1/auth/sessions"];
const REVOKE: [&str; 2] = ["/api/auth/sessions/revoke", "/api/v1/auth/sessions/revoke"];

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_revoked_under_both_names_on_both_engines() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (_, other) = sign_in_on(&world, "other@example.com", "ios-a").await;
        let (mine, me) = sign_in_on(&world, "dev@example.com", "laptop").await;
        for (n, (list, revoke)) in LIST.into_iter().zip(REVOKE).enumerate() {
            let device = format!("ios-{n}");
            let (phone, second) = sign_in_on(&world, "dev@example.com", &device).await;
            let listed = mine.get(list).await.json()["data"].clone();
            assert_eq!(listed["currentSessionId"], me["sessionId"]);
            assert_eq!(listed["sessions"][0]["session_id"], second["sessionId"]);
            assert!(
                listed["sessions"].as_array().unwrap().iter().all(|one| one["email"] == "dev@example.com")
            );
            let only = mine.get(&format!("{list}?device_id={device}")).await.json();
            assert_eq!(only["data"]["sessions"].as_array().map(Vec::len), Some(1));
            let body = json!({"device_id": device, "reason": "user_requested", "include_current": false});
            let revoked = mine.post(revoke, &body).await;
            assert_eq!(revoked.status, 200, "{}", revoked.text());
            let revoked = revoked.json();
            assert_eq!(revoked["revokedSessionIds"], json!([second["sessionId"]]));
            assert_eq!(revoked["revokedDeviceIds"], json!([device]));
            assert_eq!(revoked["reason"], "user_requested");
            assert!(text(&revoked["revokedRefreshTokenIds"][0]).starts_with("rtid_"));
            assert_eq!(phone.get("/api/me").await.status, 401);
        }
        let members: Vec<String> = {
            let listed = mine.get(LIST[0]).await.json();
            listed["data"]["sessions"][0].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            members,
            [
                "session_id",
                "user_id",
                "email",
                "device_id",
                "token_name",
                "status",
                "issued_at",
                "access_expires_at",
                "refresh_expires_at",
                "active_org_id",
                "reauth_required",
                "last_refreshed_at",
                "revoked_at",
                "revoked_reason"
            ]
        );
        let world = world.restart().await;
        let mine = world.control_http.with_bearer(text(&me["token"]));
        let states: Vec<Value> = mine.get(LIST[0]).await.json()["data"]["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|session| session["status"].clone())
            .collect();
        assert_eq!(states, [json!("revoked"), json!("revoked"), json!("active")]);
        assert_eq!(world.control_http.with_bearer(text(&other["token"])).get("/api/me").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_revocation_is_told_apart_and_changes_nothing() {
    let world = World::new().await;
    let (mine, me) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let (theirs, other) = sign_in_on(&world, "other@example.com", "laptop").await;
    let cases = [
        (json!({}), 422, Some("target")),
        (json!({"revoke_all_sessions": false}), 422, Some("target")),
        (json!({"session_id": "s", "revoke_all_sessions": true}), 422, Some("target")),
        (json!({"session_id": "s", "device_id": "d"}), 422, Some("target")),
        (json!({"device_id": "a b"}), 422, Some("device_id")),
        (json!({"session_id": "sess_unknown"}), 422, Some("session_id")),
        (json!({"session_id": other["sessionId"]}), 403, None),
        (json!({"revoke_all_sessions": true, "reason": "because"}), 422, None),
        (json!({"revoke_all_sessions": "yes"}), 422, None),
    ];
    for path in REVOKE {
        for (body, status, field) in &cases {
            let refused = mine.post(path, body).await;
            assert_eq!(refused.status, *status, "{body}: {}", refused.text());
            if let Some(field) = field {
                assert!(refused.json()["errors"][field].is_array(), "{body}: {}", refused.text());
            }
        }
        assert_eq!(mine.anonymous().post(path, &json!({})).await.status, 401);
    }
    assert_eq!(mine.get("/api/auth/sessions?device_id=a%20b").await.status, 422);
    let current = mine.post(REVOKE[0], &json!({"session_id": me["sessionId"]})).await.json();
    assert_eq!(current["revokedSessionIds"], json!([]), "the session that asks is spared");
    for still in [&mine, &theirs] {
        assert_eq!(still.get("/api/auth/session").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_tokens_see_and_end_sessions_as_far_as_their_abilities_go() {
    let world = World::new().await;
    let (mine, me) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let reader = token_of(&mine, json!({"name": "reader", "abilities": ["runtime.read"]})).await;
    assert_eq!(reader.get(LIST[0]).await.status, 403);
    assert_eq!(reader.post(REVOKE[0], &json!({"revoke_all_sessions": true})).await.status, 403);
    let manager = token_of(&mine, json!({"name": "manager", "abilities": ["tokens.manage"]})).await;
    let listed = manager.get(LIST[0]).await.json();
    assert!(text(&listed["data"]["currentSessionId"]).starts_with("pat:pat_"));
    let revoked = manager.post(REVOKE[0], &json!({"revoke_all_sessions": true})).await.json();
    assert_eq!(revoked["revokedSessionIds"], json!([me["sessionId"]]));
    assert_eq!(mine.get("/api/me").await.status, 401);
    assert_eq!(manager.get(LIST[0]).await.status, 200, "tokens are no sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_parallel_refreshes_one_wins_and_its_session_ends() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (_, session) = sign_in_on(&world, "dev@example.com", "laptop").await;
        let (watcher, _) = sign_in_on(&world, "dev@example.com", "watcher").await;
        let body = json!({"refresh_token": session["refreshToken"]});
        let path = "/api/auth/refresh";
        let (a, b) = join(world.control_http.post(path, &body), world.control_http.post(path, &body)).await;
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "{} / {}", a.text(), b.text());
        let winner = if a.status == 200 { a } else { b };
        let with_new = world.control_http.with_bearer(text(&winner.json()["token"]));
        assert_eq!(with_new.get("/api/auth/session").await.status, 401);
        let listed = watcher.get("/api/auth/sessions?device_id=laptop").await.json();
        assert_eq!(listed["data"]["sessions"][0]["revoked_reason"], "token_replay");
        assert_eq!(listed["data"]["sessions"][0]["reauth_required"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aliases_announce_their_end_and_the_others_do_not() {
    let world = World::new().await;
    let (mine, _) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let [old, new] = [mine.get("/api/v1/auth/session").await, mine.get("/api/auth/session").await];
    assert_eq!((old.status, old.json()), (200, new.json()));
    assert!(old.header("sunset").is_some() && new.header("sunset").is_none());
    assert_eq!(old.header("cache-control"), Some("no-store"));
}

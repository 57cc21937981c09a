//! `GET /api/orgs/memberships`, `POST /api/orgs/active`, `POST /api/policy/authorize` (control §6).

use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;

use super::{sign_in_on, text, token_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_house_chooses_it_and_the_choice_outlives_a_restart() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (ada, me) = sign_in_on(&world, "ada@openagents.com", "laptop").await;
        let own = format!("user:{}", text(&me["userId"]));
        let listed = ada.get("/api/orgs/memberships").await.json()["data"].clone();
        assert_eq!(listed["activeOrgId"], own);
        assert_eq!(
            listed["memberships"],
            json!([
                {"org_id": "org:openagents", "org_slug": "openagents", "role": "member",
                 "role_scopes": ["runtime.read", "sync.subscribe", "policy.evaluate", "org.membership.read"],
                 "default_org": false},
                {"org_id": own, "org_slug": format!("user-{}", text(&me["userId"])), "role": "owner",
                 "role_scopes": ["runtime.read", "runtime.write", "sync.subscribe", "policy.evaluate",
                    "org.membership.read", "org.membership.write"],
                 "default_org": true}
            ])
        );
        let chosen = ada.post("/api/orgs/active", &json!({"org_id": "org:openagents"})).await;
        assert_eq!((chosen.status, &chosen.json()["memberships"]), (200, &listed["memberships"]));
        let world = world.restart().await;
        let ada = world.control_http.with_bearer(text(&me["token"]));
        let session = ada.get("/api/auth/session").await.json()["data"].clone();
        assert_eq!(session["session"]["activeOrgId"], "org:openagents");
        assert_eq!(session["memberships"], listed["memberships"]);
        let ruling = ada.post("/api/policy/authorize", &json!({"required_scopes": ["runtime.write"]})).await;
        assert_eq!(ruling.json()["data"]["resolved_org_id"], "org:openagents");
        assert_eq!(ruling.json()["data"]["denied_reasons"], json!(["scope_denied:runtime.write"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_chooses_too_and_a_personal_token_does_not() {
    let world = World::new().await;
    let (dev, me) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let own = json!({"org_id": format!("user:{}", text(&me["userId"]))});
    let cookie = format!("oa_access_token={}", text(&me["token"]));
    let by_cookie = dev.anonymous().post_with("/api/orgs/active", &own, &[("cookie", &cookie)]).await;
    assert_eq!(by_cookie.status, 200, "{}", by_cookie.text());
    let token = token_of(&dev, json!({"name": "ci"})).await;
    assert_eq!(token.post("/api/orgs/active", &own).await.status, 401);
    assert_eq!(token.get("/api/orgs/memberships").await.json()["data"]["activeOrgId"], own["org_id"]);
    assert_eq!(dev.post("/api/orgs/active", &json!({"org_id": "org:openagents"})).await.status, 403);
    assert_eq!(dev.post("/api/orgs/active", &json!({"org_id": " "})).await.status, 422);
    assert_eq!(dev.post("/api/orgs/active", &json!({})).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_answers_200_whatever_it_says() {
    let world = World::new().await;
    let (dev, me) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let id = text(&me["userId"]);
    let ask = async |body| {
        let answered = dev.post("/api/policy/authorize", &body).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        answered.json()["data"].clone()
    };
    assert_eq!(ask(json!({})).await["allowed"], true);
    let topics = json!([format!("user:{id}:runs"), format!("org:user:{id}:workers"), "run:1:events", " "]);
    let ruling = ask(json!({"required_scopes": ["any"], "requested_topics": topics})).await;
    assert_eq!(ruling["granted_scopes"], json!(["any"]));
    assert_eq!(ruling["denied_reasons"], json!(["topic_denied:run:1:events"]));
    let elsewhere = ask(json!({"org_id": "org:openagents", "required_scopes": ["runtime.read"]})).await;
    assert_eq!(elsewhere["denied_reasons"], json!(["org_scope_denied"]));
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let refused = dev.post("/api/policy/authorize", &json!({"required_scopes": many})).await;
    assert_eq!(refused.status, 422);
}

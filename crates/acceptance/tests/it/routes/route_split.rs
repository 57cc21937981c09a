//! `/api/v1/control/route-split/*` (control §9.1): what is decided, overridden, shown, and still there after a restart.

use oa_testkit::{Engine, Http, World, WorldOptions, both_engines};
use serde_json::{Value, json};

const BASE: &str = "/api/v1/control/route-split";

async fn world(engine: Engine) -> World {
    let control = [
        ("OA_ADMIN_EMAILS", "routes@openagents.com"),
        ("OA_ROUTE_SPLIT_MODE", "cohort"),
        ("OA_ROUTE_SPLIT_RUST_ROUTES", "/chat,/login,/billing"),
        ("OA_ROUTE_SPLIT_LEGACY_BASE_URL", "https://legacy.openagents.test/"),
    ];
    let control = control.map(|(name, value)| (name, value.to_owned())).to_vec();
    World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await
}

async fn decide(http: &Http, path: &str) -> Value {
    let answered = http.post(&format!("{BASE}/evaluate"), &json!({"path": path, "cohort_key": "k"})).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["data"].clone()
}

async fn set(http: &Http, body: Value) -> oa_testkit::Answered {
    http.post(&format!("{BASE}/override"), &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_decides_until_it_is_cleared_and_outlives_a_restart() {
    for engine in both_engines() {
        let world = world(engine).await;
        let admin = world.sign_in("routes@openagents.com").await;
        let before = decide(&admin, "/billing/x/").await;
        assert_eq!(
            (&before["reason"], &before["target"], &before["cohort_key"]),
            (&json!("mode_cohort"), &json!("rust_shell"), &json!("k")),
            "{engine:?}"
        );
        let set_one = set(&admin, json!({"target": "legacy", "domain": "billing-l402"})).await;
        assert_eq!(set_one.status, 200, "{}", set_one.text());
        assert_eq!(set_one.json()["data"]["domain_overrides"], json!({"billing_l402": "legacy"}));
        assert_eq!(
            set(&admin, json!({"target": "rust"})).await.json()["data"]["override_target"],
            "rust_shell"
        );
        set(&admin, json!({"target": "htmx_off", "domain": "auth_entry"})).await;

        let world = world.restart().await;
        let admin = world.sign_in("routes@openagents.com").await;
        let status = admin.get(&format!("{BASE}/status")).await.json()["data"].clone();
        assert_eq!(status["htmx_domain_overrides"], json!({"auth_entry": "full_page"}), "{engine:?}");
        assert_eq!(status["route_groups"][0]["htmx_override_mode"], "full_page");
        assert_eq!(status["route_groups"][2]["override_target"], "legacy");
        assert_eq!(status["legacy_base_url"], "https://legacy.openagents.test");
        let page = admin.get("/api/v1/control/status").await.json();
        assert_eq!(page["data"]["routeSplit"], status, "both pages show the same");
        assert_eq!(decide(&admin, "/billing").await["reason"], "domain_override");
        assert_eq!(decide(&admin, "/settings").await["reason"], "runtime_override");
        assert_eq!(decide(&admin, "/api/runtime/codex/workers/w").await["target"], "rust_shell");
        for body in [
            json!({"target": "clear"}),
            json!({"target": "default", "domain": "billing_l402"}),
            json!({"target": "htmx_clear", "domain": "auth_entry"}),
            json!({"target": "htmx_clear", "domain": "auth_entry"}),
        ] {
            assert_eq!(set(&admin, body).await.status, 200);
        }
        assert_eq!(decide(&admin, "/billing/x").await["reason"], "mode_cohort", "{engine:?}");
        let cleared = admin.get(&format!("{BASE}/status")).await.json()["data"].clone();
        assert_eq!((&cleared["override_target"], &cleared["domain_overrides"]), (&json!(null), &json!({})));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_override_and_only_what_there_is() {
    let world = world(Engine::Sqlite).await;
    let user = world.sign_in("dev@example.com").await;
    let refused = set(&user, json!({"target": "legacy"})).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("forbidden")));
    assert_eq!(user.get(&format!("{BASE}/status")).await.json()["data"]["override_target"], json!(null));
    let admin = world.sign_in("routes@openagents.com").await;
    for (body, field) in [
        (json!({"target": "sideways"}), "target"),
        (json!({}), "target"),
        (json!({"target": "legacy", "domain": "nowhere"}), "domain"),
        (json!({"target": "htmx_on"}), "domain"),
    ] {
        let refused = set(&admin, body).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.json()["errors"][field].is_array(), "{field}: {}", refused.text());
    }
    let blank = admin.post(&format!("{BASE}/evaluate"), &json!({"path": " "})).await;
    assert!(blank.status == 422 && blank.json()["errors"]["path"].is_array());
    assert_eq!(world.control_http.get(&format!("{BASE}/status")).await.status, 401);
}

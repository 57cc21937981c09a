//! `/api/v1/control/runtime-routing/*` (control §9.2): which driver would run a thread, and who may override it.

use oa_testkit::{Engine, Http, World, WorldOptions, both_engines};
use serde_json::{Value, json};

const BASE: &str = "/api/v1/control/runtime-routing";

async fn world(engine: Engine) -> World {
    let control = vec![("OA_ADMIN_EMAILS", "routes@openagents.com".to_owned())];
    World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await
}

async fn decide(http: &Http, body: Value) -> Value {
    let answered = http.post(&format!("{BASE}/evaluate"), &body).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["data"].clone()
}

async fn set(http: &Http, body: Value) -> oa_testkit::Answered {
    http.post(&format!("{BASE}/override"), &body).await
}

async fn user_id(http: &Http) -> String {
    http.get("/api/auth/session").await.json()["data"]["user"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_of_a_user_is_kept_replaced_and_outlives_a_restart() {
    for engine in both_engines() {
        let world = world(engine).await;
        let admin = world.sign_in("routes@openagents.com").await;
        let id = user_id(&admin).await;
        let first =
            set(&admin, json!({"scope_type": "user", "scope_id": id, "driver": "runtime_service", "reason": "canary", "meta": {"a": [1]}})).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let first = first.json()["data"]["override"].clone();
        assert!(first["id"].as_str().is_some_and(|id| id.starts_with("rdo_")));
        assert_eq!((&first["driver"], &first["is_active"]), (&json!("runtime_service"), &json!(true)));
        let decision = decide(&admin, json!({"thread_id": "thread-1", "user_id": id})).await;
        assert_eq!(
            decision,
            json!({"driver": "runtime_service", "reason": "user_override", "default_driver": "control_service",
                "force_control_service": false, "user_override": "runtime_service",
                "shadow": {"enabled": false, "mirrored": false, "sample_rate": 1.0}}),
            "{engine:?}"
        );

        let world = world.restart().await;
        let admin = world.sign_in("routes@openagents.com").await;
        assert_eq!(decide(&admin, json!({"thread_id": "t"})).await["reason"], "user_override");
        let other = json!({"scope_type": "autopilot", "scope_id": "ap", "driver": "control_service"});
        set(&admin, other).await;
        let second = set(
            &admin,
            json!({"scope_type": "user", "scope_id": id, "driver": "CONTROL_SERVICE", "is_active": false}),
        )
        .await;
        let changed = second.json()["data"]["override"].clone();
        assert_eq!(
            (&changed["id"], &changed["created_at"]),
            (&first["id"], &first["created_at"]),
            "{engine:?}"
        );
        assert_eq!((&changed["meta"], &changed["reason"]), (&json!({"a": [1]}), &json!(null)));
        let shown = second.json()["data"]["status"]["overrides"].clone();
        assert_eq!(shown.as_array().map(Vec::len), Some(2));
        assert_eq!((&shown[0], &shown[1]["scope_id"]), (&changed, &json!("ap")), "the last change is first");
        assert_eq!(decide(&admin, json!({"thread_id": "t"})).await["reason"], "default_driver");
        let page = admin.get("/api/v1/control/status").await.json();
        let status = admin.get(&format!("{BASE}/status")).await.json();
        assert_eq!(page["data"]["runtimeRouting"], status["data"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_of_an_autopilot_follows_its_override_then_its_binding() {
    for engine in both_engines() {
        let world = world(engine).await;
        let admin = world.sign_in("routes@openagents.com").await;
        let user = world.sign_in("dev@example.com").await;
        let made =
            user.post("/api/autopilots", &json!({"handle": "scout", "runtimeType": "runtime_service"})).await;
        let autopilot = made.json()["data"]["id"].as_str().expect("an id").to_owned();
        let thread = user.post("/api/autopilots/scout/threads", &json!({})).await;
        let thread = thread.json()["data"]["id"].as_str().expect("an id").to_owned();
        let bound = decide(&user, json!({"thread_id": thread})).await;
        assert_eq!(
            (&bound["reason"], &bound["autopilot_id"]),
            (&json!("autopilot_binding"), &json!(autopilot))
        );
        assert_eq!(bound["autopilot_binding_driver"], "runtime_service");
        set(&admin, json!({"scope_type": "autopilot", "scope_id": autopilot, "driver": "control_service"}))
            .await;
        let overridden = decide(&user, json!({"thread_id": thread})).await;
        assert_eq!(
            (&overridden["reason"], &overridden["driver"]),
            (&json!("autopilot_override"), &json!("control_service"))
        );
        // Somebody else learns nothing of the thread and nothing of the autopilot.
        let stranger = decide(&admin, json!({"thread_id": thread})).await;
        assert_eq!(
            (&stranger["reason"], &stranger["autopilot_id"]),
            (&json!("default_driver"), &json!(null))
        );
        let stranger = decide(&admin, json!({"thread_id": thread, "autopilot_id": autopilot})).await;
        assert_eq!(
            (&stranger["reason"], &stranger["autopilot_binding_driver"]),
            (&json!("default_driver"), &json!(null))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autopilot_is_bound_to_one_of_the_two_drivers_and_to_nothing_older() {
    let world = world(Engine::Sqlite).await;
    let user = world.sign_in("dev@example.com").await;
    let made = user.post("/api/autopilots", &json!({"runtimeType": " Runtime_Service "})).await;
    assert_eq!(made.json()["data"]["runtimeType"], "runtime_service", "{}", made.text());
    for label in ["elixir", "laravel", "legacy", "openagents.com", "runtime", "control"] {
        let refused = user.post("/api/autopilots", &json!({"runtimeType": label})).await;
        let told = refused.json()["errors"]["runtimeType"].clone();
        let said = json!(["runtimeType must be control_service or runtime_service"]);
        assert_eq!((refused.status, told), (422, said), "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_override_and_only_the_callers_routing_is_decided() {
    let world = world(Engine::Sqlite).await;
    let user = world.sign_in("dev@example.com").await;
    let good = json!({"scope_type": "user", "scope_id": "u", "driver": "runtime_service"});
    assert_eq!(set(&user, good).await.status, 403);
    let other = json!({"thread_id": "t", "user_id": "user_other"});
    assert_eq!(user.post(&format!("{BASE}/evaluate"), &other).await.status, 403);
    let blank = user.post(&format!("{BASE}/evaluate"), &json!({})).await;
    assert!(blank.status == 422 && blank.json()["errors"]["thread_id"].is_array(), "{}", blank.text());
    let admin = world.sign_in("routes@openagents.com").await;
    for (body, field) in [
        (json!({"scope_id": "u", "driver": "runtime_service"}), "scope_type"),
        (json!({"scope_type": "user", "driver": "runtime_service"}), "scope_id"),
        (json!({"scope_type": "user", "scope_id": "u", "driver": "laravel"}), "driver"),
        (json!({"scope_type": "user", "scope_id": "u", "driver": "runtime"}), "driver"),
        (json!({"scope_type": "user", "scope_id": "u", "driver": "control"}), "driver"),
        (
            json!({"scope_type": "user", "scope_id": "u", "driver": "runtime_service", "reason": "x".repeat(256)}),
            "reason",
        ),
    ] {
        let refused = set(&admin, body).await;
        assert!(
            refused.status == 422 && refused.json()["errors"][field].is_array(),
            "{field}: {}",
            refused.text()
        );
    }
    assert_eq!(admin.get(&format!("{BASE}/status")).await.json()["data"]["overrides"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_overrides_of_one_scope_leave_one() {
    for engine in both_engines() {
        let world = world(engine).await;
        let admin = world.sign_in("routes@openagents.com").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let admin = admin.clone();
            tasks.spawn(async move {
                set(&admin, json!({"scope_type": "user", "scope_id": "u", "driver": "runtime_service"}))
                    .await
                    .json()["data"]["override"]["id"]
                    .clone()
            });
        }
        let mut ids: Vec<String> = tasks.join_all().await.iter().map(Value::to_string).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{engine:?}: {ids:?}");
        let overrides = admin.get(&format!("{BASE}/status")).await.json()["data"]["overrides"].clone();
        assert_eq!(overrides.as_array().map(Vec::len), Some(1));
    }
}

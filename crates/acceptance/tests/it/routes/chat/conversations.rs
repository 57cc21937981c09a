//! Threads under their former names: listed, begun, read, and nobody else's.

use oa_testkit::{SimulatedCodexWorker, World, both_engines};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_a_thread_under_its_former_name() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let made = user.post("/api/chats", &json!({"title": "Migration Chat"})).await;
        assert_eq!((made.status, made.header("x-oa-compat-sunset-date")), (201, Some("2026-06-30")));
        assert!(made.header("x-oa-legacy-chat-retired").is_none());
        let made = made.json()["data"].clone();
        let id = made["id"].as_str().expect("an id").to_owned();
        assert!(
            id.starts_with("thread_") && made["title"] == "Migration Chat" && made["autopilotId"].is_null()
        );
        let millis =
            made["createdAt"].as_str().is_some_and(|at| at.len() == "2026-02-25T12:00:00.707Z".len());
        assert!(millis, "{made}");
        assert_eq!(user.post("/api/chats", &json!({})).await.json()["data"]["title"], "New conversation");
        user.post(&format!("/api/runtime/threads/{id}/messages"), &json!({"text": "Who are you?"})).await;
        let listed = user.get("/api/chats?limit=1").await.json()["data"].clone();
        assert_eq!((listed.as_array().map(Vec::len), &listed[0]["id"]), (Some(1), &json!(id)), "{engine:?}");
        assert_eq!(listed[0]["title"], format!("Codex Thread {id}"), "a title is said back once");
        let shown = user.get(&format!("/api/chats/{id}")).await.json()["data"].clone();
        assert_eq!((&shown["conversation"], &shown["runs"]), (&listed[0], &json!([])));
        let message = shown["messages"][0].clone();
        let names: Vec<&String> = message.as_object().expect("a message").keys().collect();
        assert_eq!(
            names,
            ["id", "runId", "autopilotId", "role", "content", "meta", "createdAt", "updatedAt"]
        );
        assert_eq!((&message["role"], &message["content"]), (&json!("user"), &json!("Who are you?")));
        let messages = user.get(&format!("/api/chats/{id}/messages")).await.json();
        assert_eq!(messages["data"], json!([message]));
        assert_eq!(user.get(&format!("/api/chats/{id}/runs")).await.json(), json!({"data": []}));
        let events = user.get(&format!("/api/chats/{id}/runs/run_7/events")).await.json();
        let retired =
            json!({"id": "run_7", "status": "retired", "modelProvider": "codex_app_server", "model": null});
        assert_eq!(events, json!({"data": {"run": retired, "events": []}}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ran_is_a_run_with_what_was_said_in_it() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    user.post("/api/runtime/threads/t/messages", &json!({"text": "Hi"})).await;
    let item = json!({"item": {"id": "i1", "type": "agentMessage", "text": "Hello."}});
    let said: [(&str, Value); 3] = [
        ("turn/started", json!({"turn": {"id": "turn-1"}, "model": "gpt"})),
        ("item/completed", item),
        ("turn/completed", json!({"turn": {"id": "turn-1"}})),
    ];
    for (method, params) in said {
        worker.says("t", "turn-1", method, params).await;
    }
    let runs = user.get("/api/chats/t/runs").await.json()["data"].clone();
    assert_eq!(
        (&runs[0]["id"], &runs[0]["status"], &runs[0]["model"]),
        (&json!("turn-1"), &json!("completed"), &json!("gpt"))
    );
    let events = user.get("/api/chats/t/runs/turn-1/events").await.json()["data"].clone();
    assert_eq!(events["run"], runs[0]);
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["events"][0]["payload"]["content"], "Hello.");
    let messages = user.get("/api/chats/t/messages").await.json()["data"].clone();
    assert_eq!((&messages[1]["runId"], &messages[1]["role"]), (&json!("turn-1"), &json!("assistant")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_writes_somebody_elses_conversation() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
    user.post("/api/runtime/threads/t/messages", &json!({"text": "mine"})).await;
    for path in ["/api/chats/t", "/api/chats/t/messages", "/api/chats/t/runs", "/api/chats/t/runs/r/events"] {
        assert_eq!(other.get(path).await.status, 403, "{path}");
        assert_eq!(user.get(&path.replace("/t", "/unknown")).await.status, 404, "{path}");
        assert_eq!(world.control_http.get(path).await.status, 401, "{path}");
    }
    let blank = user.get("/api/chats/%20").await;
    assert!(blank.status == 422 && blank.json()["errors"]["conversation_id"].is_array(), "{}", blank.text());
    assert_eq!(other.post("/api/chats/t/stream", &json!({"text": "x"})).await.status, 403);
    assert_eq!(other.post("/api/chat/stream", &json!({"id": "t", "text": "x"})).await.status, 403);
    assert_eq!(other.get("/api/chats").await.json()["data"], json!([]));
    assert_eq!(user.get("/api/chats/t/messages").await.json()["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_sessions_are_retired_for_everybody_who_is_signed_in() {
    let world = World::new().await;
    let path = "/api/chat/guest-session";
    assert_eq!(world.control_http.get(path).await.status, 401);
    let user = world.sign_in("dev@example.com").await;
    let cookie = format!("oa_access_token={}", user.bearer.clone().expect("a token"));
    let by_cookie = world.control_http.send("GET", path, &[("cookie", &cookie)], None).await;
    for answered in [user.get(path).await, by_cookie] {
        assert_eq!(answered.status, 410, "{}", answered.text());
        assert_eq!(answered.header("x-oa-chat-auth-policy"), Some("codex-auth-required"));
        assert_eq!(answered.header("x-oa-compat-sunset-date"), Some("2026-06-30"));
        let data = answered.json()["data"].clone();
        assert_eq!((&data["retired"], &data["status"]), (&json!(true), &json!("codex_auth_required")));
        assert_eq!(data["canonical"], "/api/runtime/threads");
    }
}

//! A message under the former names and the stream that answers it, byte for byte on the wire.

use oa_testkit::{SimulatedCodexWorker, World, both_engines};
use serde_json::{Value, json};

/// The chunks of a stream, without the end that every stream has.
fn chunks(body: &str) -> Vec<Value> {
    let body = body.strip_suffix("data: [DONE]\n\n").expect("an end");
    let lines = body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    lines
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("json"))
        .collect()
}

fn types(chunks: &[Value]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk["type"].as_str().unwrap_or("?")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_runs_a_message_is_taken_and_the_stream_says_no_more() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let body = json!({"id": "thread-1", "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]});
        let answered = user.post("/api/chat/stream", &body).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache, no-transform"),
            ("connection", "keep-alive"),
            ("x-accel-buffering", "no"),
            ("x-vercel-ai-ui-message-stream", "v1"),
            ("x-oa-protocol-version", "openagents.control.v1"),
            ("x-oa-compatibility-min-client-build-id", "00000000T000000Z"),
            ("x-oa-compatibility-min-schema-version", "1"),
            ("x-oa-compatibility-max-schema-version", "1"),
            ("x-oa-compat-sunset-date", "2026-06-30"),
        ] {
            assert_eq!(answered.header(name), Some(value), "{name}");
        }
        let told = chunks(&answered.text());
        assert_eq!(
            types(&told),
            ["start", "start-step", "message-metadata", "finish-step", "finish"],
            "{engine:?}"
        );
        assert_eq!(told[0]["messageMetadata"], json!({"source": "codex", "threadId": "thread-1"}));
        assert_eq!(told[4]["messageMetadata"]["status"], "accepted");
        let messages = user.get("/api/runtime/threads/thread-1/messages").await.json();
        assert_eq!(messages["data"]["messages"][0]["text"], "hello");
        user.post("/api/chats/thread-1/stream", &json!({"id": "ignored", "text": "again"})).await;
        let messages = user.get("/api/runtime/threads/thread-1/messages").await.json();
        assert_eq!(
            messages["data"]["messages"].as_array().map(Vec::len),
            Some(2),
            "the path names the thread"
        );
        let fresh = chunks(&user.post("/api/chat/stream", &json!({"message": "new"})).await.text());
        assert!(fresh[0]["messageMetadata"]["threadId"].as_str().is_some_and(|id| id.starts_with("thread_")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_words_is_refused_under_its_field_and_leaves_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (body, field) in [
        (json!({"id": "t"}), "messages"),
        (json!({"id": "t", "messages": [{"role": "assistant", "content": "x"}]}), "messages"),
        (json!({"id": "t", "text": "x".repeat(20_001)}), "request.params.text"),
        (json!({"id": "x".repeat(256), "text": "x"}), "thread_id"),
    ] {
        let refused = user.post("/api/chat/stream", &body).await;
        assert!(
            refused.status == 422 && refused.json()["errors"][field].is_array(),
            "{field}: {}",
            refused.text()
        );
    }
    assert_eq!(user.get("/api/chats").await.json()["data"], json!([]));
    assert_eq!(world.control_http.post("/api/chat/stream", &json!({})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_runs_is_told_from_its_beginning_to_its_end() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
        let asking = {
            let user = user.clone();
            let body = json!({"id": "t", "text": "What is here?", "worker_id": "desk"});
            tokio::spawn(async move { user.post("/api/chat/stream", &body).await })
        };
        let request = worker.next_request().await;
        assert_eq!(
            (&request["method"], &request["thread_id"]),
            (&json!("turn/start"), &json!("t")),
            "{engine:?}"
        );
        assert!(request["request_id"].as_str().is_some_and(|id| id.starts_with("legacy_stream_")));
        assert_eq!(request["params"]["text"], "What is here?");
        worker.respond(&request, json!({"thread_id": "t", "turn": {"id": "turn-1"}})).await;
        let call =
            json!({"item": {"id": "c", "type": "mcpToolCall", "tool": "ls", "arguments": {"path": "."}}});
        let said: [(&str, &str, Value); 9] = [
            ("t", "turn/started", json!({"turn": {"id": "turn-1"}})),
            ("other", "item/agentMessage/delta", json!({"itemId": "x", "delta": "not for us"})),
            ("t", "item/started", call.clone()),
            ("t", "item/toolOutput/delta", json!({"itemId": "c", "delta": "a b c"})),
            ("t", "item/completed", call),
            ("t", "item/agentMessage/delta", json!({"itemId": "m", "delta": "Three "})),
            ("t", "item/agentMessage/delta", json!({"itemId": "m", "delta": "files."})),
            (
                "t",
                "item/completed",
                json!({"item": {"id": "m", "type": "agentMessage", "text": "Three files."}}),
            ),
            ("t", "turn/completed", json!({"turn": {"id": "turn-1", "status": "completed"}})),
        ];
        for (thread, method, params) in said {
            assert_eq!(worker.says(thread, "turn-1", method, params).await.status, 202, "{method}");
        }
        let answered = asking.await.expect("an answer");
        let told = chunks(&answered.text());
        assert_eq!(
            types(&told),
            [
                "start",
                "start-step",
                "message-metadata",
                "tool-input-available",
                "data-tool-output",
                "tool-output-available",
                "text-start",
                "text-delta",
                "text-delta",
                "text-end",
                "finish-step",
                "finish",
            ],
            "{engine:?}"
        );
        assert_eq!(told[2]["messageMetadata"]["turnId"], "turn-1");
        assert_eq!(told[11]["messageMetadata"], json!({"status": "completed", "turnId": "turn-1"}));
        let messages = user.get("/api/chats/t/messages").await.json()["data"].clone();
        assert_eq!(messages.as_array().map(Vec::len), Some(3), "the user's, the tool's and the assistant's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_refuses_ends_the_stream_with_an_error() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let mut worker = SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    let asking = {
        let user = user.clone();
        let body = json!({"text": "Hi", "workerId": "desk"});
        tokio::spawn(async move { user.post("/api/chats/t/stream", &body).await })
    };
    let request = worker.next_request().await;
    worker.fail(&request, "forbidden").await;
    let told = chunks(&asking.await.expect("an answer").text());
    assert_eq!(types(&told), ["start", "error", "finish"]);
    assert_eq!(told[1]["errorText"], "on purpose");
    assert_eq!(told[2]["messageMetadata"]["error"]["code"], "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_somebody_else_is_never_asked() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("two@example.com").await);
    let mut worker = SimulatedCodexWorker::attach(&other, "desk", world.now()).await;
    let answered = user.post("/api/chat/stream", &json!({"text": "Hi", "worker_id": "desk"})).await;
    assert_eq!(chunks(&answered.text()).last().expect("an end")["messageMetadata"]["status"], "accepted");
    assert!(worker.look(false).await.is_empty());
}

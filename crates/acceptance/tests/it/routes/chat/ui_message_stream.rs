//! The stream is read with the npm package `ai` 7 itself: its first version, which refuses every member that it does not
//! know, and a current one. `cargo xtask ci` installs both from `crates/acceptance/js`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use oa_testkit::{Http, SimulatedCodexWorker, World};
use serde_json::{Value, json};
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// A current version, and the first.
const PACKAGES: [(&str, &str); 2] = [("ai", "7."), ("ai-first", "7.0.0")];

fn modules() -> PathBuf {
    let named = std::env::var_os("OA_TEST_NODE_MODULES").map(PathBuf::from);
    let modules = named.unwrap_or_else(|| Path::new(ROOT).join("target/acceptance-js/node_modules"));
    for (package, _) in PACKAGES {
        assert!(
            modules.join(package).join("package.json").is_file(),
            "the readers of the UI message stream are not installed in {}: `cargo xtask ci` installs them, or copy crates/acceptance/js/package*.json into a directory, run `npm ci --ignore-scripts` there, and name its node_modules in OA_TEST_NODE_MODULES",
            modules.display()
        );
    }
    modules
}

/// Sends a message as the package's own transport does, and gives what the package made of the answer.
async fn read(package: &str, user: &Http, path: &str, chat_id: &str, text: &str) -> Value {
    let script = Path::new(ROOT).join("crates/acceptance/js/read-ui-message-stream.mjs");
    let token = user.bearer.as_deref().expect("a session");
    let output = Command::new("node")
        .arg(script)
        .arg(modules())
        .args([package, &format!("{}{path}", user.base), token, chat_id, text])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node runs: `cargo xtask ci` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{package} does not read the stream: {said}");
    serde_json::from_slice(&output.stdout).expect("what the package made of it")
}

/// The parts of a message that have this type.
fn parts<'a>(message: &'a Value, kind: &str) -> Vec<&'a Value> {
    message["parts"].as_array().expect("parts").iter().filter(|part| part["type"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ai_sdk_reads_that_a_message_was_taken() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for (package, version) in PACKAGES {
        for path in ["/api/chat/stream".to_owned(), format!("/api/chats/thread-{package}/stream")] {
            let thread = format!("thread-{package}");
            let read = read(package, &user, &path, &thread, "hello").await;
            assert!(read["version"].as_str().is_some_and(|found| found.starts_with(version)), "{read}");
            assert_eq!(read["errors"], json!([]));
            assert_eq!(
                read["types"],
                json!(["start", "start-step", "message-metadata", "finish-step", "finish"])
            );
            let metadata = &read["message"]["metadata"];
            assert_eq!(
                (&metadata["threadId"], &metadata["status"]),
                (&json!(thread), &json!("accepted")),
                "{read}"
            );
            assert!(metadata["turnId"].as_str().is_some_and(|turn| turn.starts_with("turn_")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ai_sdk_reads_a_turn_as_it_runs() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    // The name that clients mean which name none.
    let mut worker = SimulatedCodexWorker::attach(&user, "desktopw:shared", world.now()).await;
    for (package, _) in PACKAGES {
        let (reader, thread) = (user.clone(), format!("thread-{package}"));
        let reading = tokio::spawn(async move {
            read(package, &reader, "/api/chat/stream", &thread, "What is here?").await
        });
        let request = worker.next_request().await;
        let thread = request["thread_id"].as_str().expect("a thread").to_owned();
        let turn = format!("turn-{package}");
        worker.respond(&request, json!({"thread_id": thread, "turn": {"id": turn}})).await;
        let call = json!({"item": {"id": "c", "type": "mcp_tool_call", "tool_name": "ls", "arguments": {"path": "."}}});
        let said: [(&str, Value); 9] = [
            ("turn/started", json!({"turn": {"id": turn}})),
            ("item/reasoning/summaryTextDelta", json!({"itemId": "r", "delta": "Looking."})),
            ("item/started", call.clone()),
            ("item/toolOutput/delta", json!({"itemId": "c", "delta": "a b c"})),
            ("item/completed", call),
            ("item/started", json!({"item": {"id": "m", "type": "agent_message"}})),
            ("item/agentMessage/delta", json!({"itemId": "m", "delta": "Three "})),
            ("item/agentMessage/delta", json!({"itemId": "m", "delta": "files."})),
            ("turn/completed", json!({"turn": {"id": turn, "status": "completed"}})),
        ];
        for (method, params) in said {
            assert_eq!(worker.says(&thread, &turn, method, params).await.status, 202);
        }
        let read = reading.await.expect("read");
        assert_eq!(read["errors"], json!([]), "{package}");
        let message = &read["message"];
        assert_eq!(parts(message, "text")[0]["text"], "Three files.", "{package}: {message}");
        assert_eq!(parts(message, "reasoning")[0]["text"], "Looking.");
        let tool = parts(message, "dynamic-tool")[0];
        assert_eq!((&tool["toolName"], &tool["state"]), (&json!("ls"), &json!("output-available")));
        assert_eq!((&tool["input"]["path"], &tool["output"]["text"]), (&json!("."), &json!("a b c")));
        assert_eq!(
            (&message["metadata"]["status"], &message["metadata"]["turnId"]),
            (&json!("completed"), &json!(turn))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ai_sdk_reads_that_a_turn_failed() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let mut worker = SimulatedCodexWorker::attach(&user, "desktopw:shared", world.now()).await;
    for (package, _) in PACKAGES {
        let reader = user.clone();
        let reading =
            tokio::spawn(async move { read(package, &reader, "/api/chat/stream", package, "Hi").await });
        let request = worker.next_request().await;
        worker.respond(&request, json!({"thread_id": package, "turn": {"id": package}})).await;
        let failure = json!({"error": {"message": "the model is away"}, "will_retry": true});
        worker.says(package, package, "turn/failed", failure).await;
        let read = reading.await.expect("read");
        assert_eq!(read["errors"], json!(["the model is away"]), "{read}");
        let metadata = &read["message"]["metadata"];
        assert_eq!(
            (&metadata["status"], &metadata["error"]["code"]),
            (&json!("error"), &json!("turn_failed"))
        );
    }
}

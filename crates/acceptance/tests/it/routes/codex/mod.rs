//! The seven `/api/runtime/codex/workers` rows (control §14), with a simulated worker where one is attached.

mod events;
mod feed;
mod lifecycle;
mod requests;

use oa_testkit::{Answered, Http};
use serde_json::{Value, json};

fn path(worker_id: &str, rest: &str) -> String {
    format!("/api/runtime/codex/workers/{worker_id}{rest}")
}

async fn post_event(http: &Http, worker_id: &str, event_type: &str, payload: Value) -> Answered {
    let body = json!({"event": {"event_type": event_type, "payload": payload}});
    http.post(&path(worker_id, "/events"), &body).await
}

async fn ask(http: &Http, worker_id: &str, request: Value) -> Answered {
    http.post(&path(worker_id, "/requests"), &json!({"request": request})).await
}

async fn snapshot(http: &Http, worker_id: &str) -> Value {
    let answered = http.get(&path(worker_id, "")).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["data"].clone()
}

/// Every event of a feed, page by page.
async fn feed(http: &Http, worker_id: &str) -> Vec<Value> {
    let (mut cursor, mut events) = (0, Vec::new());
    loop {
        let answered = http.get(&path(worker_id, &format!("/stream?limit=100&cursor={cursor}"))).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let page = answered.json()["data"].clone();
        events.extend(page["events"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => cursor = next,
            None => return events,
        }
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_type"].as_str().unwrap()).collect()
}

async fn texts(http: &Http, thread_id: &str) -> Vec<(String, String)> {
    let read = http.get(&format!("/api/runtime/threads/{thread_id}/messages")).await;
    assert_eq!(read.status, 200, "{}", read.text());
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let messages = read.json()["data"]["messages"].as_array().unwrap().clone();
    messages.iter().map(|one| (text(one, "role"), text(one, "text"))).collect()
}

//! A program that says it is a codex worker, as far as control can tell: a simulation that speaks HTTP.

use oa_contract::Timestamp;
use serde_json::{Value, json};

use crate::http::{Answered, Http};

/// A simulated codex worker: follows its feed by long polls, and answers what the test tells it to.
#[derive(Clone, Debug)]
pub struct SimulatedCodexWorker {
    pub http: Http,
    pub worker_id: String,
    /// The last event it has seen.
    pub cursor: u64,
    now: Timestamp,
}

impl SimulatedCodexWorker {
    /// Creates the worker and looks at its feed as the worker, so that it is attached.
    pub async fn attach(http: &Http, worker_id: &str, now: Timestamp) -> Self {
        let body = json!({"worker_id": worker_id, "adapter": "desktop_bridge"});
        let made = http.post("/api/runtime/codex/workers", &body).await;
        assert_eq!(made.status, 202, "{}", made.text());
        let mut worker =
            SimulatedCodexWorker { http: http.clone(), worker_id: worker_id.to_owned(), cursor: 0, now };
        worker.look(false).await;
        worker
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/api/runtime/codex/workers/{}{rest}", self.worker_id)
    }

    /// One page of the feed, from where it stopped reading; waits for something if told to.
    pub async fn look(&mut self, wait: bool) -> Vec<Value> {
        let wait = if wait { "&wait=1&tail_ms=20000" } else { "" };
        let path = self.path(&format!("/stream?consumer=worker&cursor={}{wait}", self.cursor));
        let page = self.http.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let events = page.json()["data"]["events"].as_array().cloned().unwrap_or_default();
        if let Some(last) = events.last().and_then(|event| event["seq"].as_u64()) {
            self.cursor = last;
        }
        events
    }

    /// The next thing it is asked, waited for.
    pub async fn next_request(&mut self) -> Value {
        for _ in 0..10 {
            let events = self.look(true).await;
            let asked = events.iter().find(|event| event["event_type"] == "worker.request");
            if let Some(event) = asked {
                return event["payload"]["request"].clone();
            }
        }
        panic!("the worker {} was asked nothing", self.worker_id)
    }

    pub async fn post(&self, event_type: &str, payload: Value) -> Answered {
        let body = json!({"event": {"event_type": event_type, "payload": payload}});
        self.http.post(&self.path("/events"), &body).await
    }

    pub async fn post_as(&self, event_id: &str, event_type: &str, payload: Value) -> Answered {
        let body = json!({"event": {"event_type": event_type, "payload": payload, "event_id": event_id}});
        self.http.post(&self.path("/events"), &body).await
    }

    /// Does what it was asked.
    pub async fn respond(&self, request: &Value, response: Value) -> Answered {
        let payload = json!({"request_id": request["request_id"], "method": request["method"], "ok": true,
            "response": response, "occurred_at": self.now});
        self.post("worker.response", payload).await
    }

    /// Does not do what it was asked.
    pub async fn fail(&self, request: &Value, code: &str) -> Answered {
        let payload = json!({"request_id": request["request_id"], "method": request["method"], "code": code,
            "message": "on purpose", "retryable": false, "occurred_at": self.now});
        self.post("worker.error", payload).await
    }

    /// Passes on what codex says about a turn of a thread.
    pub async fn says(&self, thread_id: &str, turn_id: &str, method: &str, params: Value) -> Answered {
        let payload = json!({"source": "codex_app_server", "method": method, "params": params,
            "thread_id": thread_id, "turn_id": turn_id, "occurred_at": self.now});
        self.post("worker.event", payload).await
    }
}

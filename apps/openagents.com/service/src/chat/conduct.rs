//! Decides which events of a worker's feed belong to the turn that a message began, and tells them in order: the receipt of
//! the request, then what codex said in that turn, until it ends. Pure; what cannot be told ends the stream with an
//! error, never the feed.

use oa_contract::wire::codex::{CODEX_APP_SERVER, CodexEvent, Error, Notification, Response};
use serde_json::Value;

use super::{
    frames,
    mapper::{Mapper, turn_id},
};

/// One message and the turn that answers it.
#[derive(Debug)]
pub struct Conductor {
    thread_id: String,
    request_id: String,
    /// Known once the worker has answered or codex has begun.
    turn_id: Option<String>,
    mapper: Mapper,
}

impl Conductor {
    pub fn new(thread_id: &str, request_id: &str) -> Self {
        Conductor {
            thread_id: thread_id.to_owned(),
            request_id: request_id.to_owned(),
            turn_id: None,
            mapper: Mapper::new(thread_id),
        }
    }

    pub fn is_finished(&self) -> bool {
        self.mapper.is_finished()
    }

    /// The chunks before anything has happened.
    pub fn open(&mut self) -> Vec<Value> {
        self.mapper.start().unwrap_or_default()
    }

    /// The chunks of one event of the feed; most events of it are none of ours.
    pub fn event(&mut self, event: &CodexEvent) -> Vec<Value> {
        if self.is_finished() {
            return Vec::new();
        }
        let payload = event.payload.get();
        match event.event_type.as_str() {
            "worker.response" => {
                serde_json::from_str(payload).map_or_else(|_| Vec::new(), |it| self.receipt(&it))
            }
            "worker.error" => {
                serde_json::from_str(payload).map_or_else(|_| Vec::new(), |it| self.refusal(&it))
            }
            "worker.event" => {
                serde_json::from_str(payload).map_or_else(|_| Vec::new(), |it| self.notification(&it))
            }
            "worker.stopped" | "worker.failed" => {
                self.fail("worker_unavailable", "the worker stopped before the turn ended", true)
            }
            _ => Vec::new(),
        }
    }

    /// Ends the stream with an error.
    pub fn fail(&mut self, code: &str, message: &str, retryable: bool) -> Vec<Value> {
        self.mapper.fail(code, message, retryable).unwrap_or_default()
    }

    /// Ends a stream whose turn is not followed to its end.
    pub fn cut_off(&mut self, code: &str, why: &str) -> Vec<Value> {
        match self.mapper.end() {
            Ok(()) => Vec::new(),
            Err(violation) => self.fail(code, &format!("{violation}: {why}"), true),
        }
    }

    fn receipt(&mut self, receipt: &Response) -> Vec<Value> {
        let turn = receipt.response["turn"]["id"].as_str().map(str::trim).filter(|id| !id.is_empty());
        match turn {
            Some(turn) if receipt.request_id == self.request_id && self.turn_id.is_none() => {
                self.begin(turn, frames::MODEL)
            }
            _ => Vec::new(),
        }
    }

    fn refusal(&mut self, receipt: &Error) -> Vec<Value> {
        if receipt.request_id != self.request_id {
            return Vec::new();
        }
        let error = &receipt.error;
        self.fail(&error.code, &error.message, error.retryable.unwrap_or(false))
    }

    fn notification(&mut self, said: &Notification) -> Vec<Value> {
        let ours = said.source == CODEX_APP_SERVER
            && said.thread_id.as_deref().map(str::trim) == Some(self.thread_id.as_str())
            && said.request_id.as_deref().is_none_or(|request_id| request_id == self.request_id);
        if !ours {
            return Vec::new();
        }
        let turn = said.turn_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
        let turn = turn.or_else(|| turn_id(&said.params)).map(str::to_owned);
        match (said.method.as_str(), &self.turn_id, turn) {
            // The reader's message began with the stream.
            ("thread/started", ..) => Vec::new(),
            ("turn/started", None, Some(turn)) => {
                let model = said.params["model"].as_str().or(said.params["turn"]["model"].as_str());
                self.begin(&turn, model.unwrap_or(frames::MODEL))
            }
            // The receipt told it already, or it is another turn.
            ("turn/started", ..) => Vec::new(),
            (_, None, _) if said.request_id.is_none() => Vec::new(),
            (_, Some(known), Some(turn)) if *known != turn => Vec::new(),
            (method, ..) => {
                let chunks = self.mapper.notification(method, &said.params);
                chunks.unwrap_or_else(|violation| self.refuse(&violation.to_string()))
            }
        }
    }

    fn begin(&mut self, turn_id: &str, model: &str) -> Vec<Value> {
        self.turn_id = Some(turn_id.to_owned());
        let chunks = self.mapper.start_step(turn_id, model);
        chunks.unwrap_or_else(|violation| self.refuse(&violation.to_string()))
    }

    fn refuse(&mut self, why: &str) -> Vec<Value> {
        self.fail("adapter_preview_unavailable", &format!("the turn cannot be shown: {why}"), false)
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Timestamp;
    use serde_json::json;

    use super::*;

    fn event(event_type: &str, payload: &Value) -> CodexEvent {
        CodexEvent {
            seq: 1,
            event_type: event_type.into(),
            payload: serde_json::value::to_raw_value(payload).expect("json"),
            occurred_at: Timestamp::EPOCH,
            received_at: Timestamp::EPOCH,
            event_id: None,
        }
    }

    fn said(method: &str, thread_id: &str, more: &Value) -> CodexEvent {
        let mut payload = json!({"source": "codex_app_server", "method": method, "thread_id": thread_id,
            "params": {}, "occurred_at": "2026-02-22T00:00:00Z"});
        for (name, value) in more.as_object().expect("members") {
            payload[name] = value.clone();
        }
        event("worker.event", &payload)
    }

    fn receipt(request_id: &str) -> CodexEvent {
        let response = json!({"request_id": request_id, "method": "turn/start", "ok": true,
            "response": {"turn": {"id": "t1"}}, "occurred_at": "2026-02-22T00:00:00Z"});
        event("worker.response", &response)
    }

    fn types(chunks: &[Value]) -> Vec<&str> {
        chunks.iter().map(|chunk| chunk["type"].as_str().unwrap_or("?")).collect()
    }

    fn conductor() -> Conductor {
        let mut conductor = Conductor::new("thread-1", "req-1");
        assert_eq!(types(&conductor.open()), ["start"]);
        conductor
    }

    #[test]
    fn the_turn_begins_with_the_receipt_or_with_codex_whichever_comes_first() {
        let mut by_receipt = conductor();
        assert_eq!(types(&by_receipt.event(&receipt("req-1"))), ["start-step", "message-metadata"]);
        assert!(by_receipt.event(&said("turn/started", "thread-1", &json!({"turn_id": "t1"}))).is_empty());
        let mut by_codex = conductor();
        let began =
            said("turn/started", "thread-1", &json!({"params": {"turn": {"id": "t1"}, "model": "m"}}));
        let chunks = by_codex.event(&began);
        assert_eq!(chunks[1]["messageMetadata"]["model"], "m");
        assert!(by_codex.event(&receipt("req-1")).is_empty());
    }

    #[test]
    fn what_belongs_to_others_is_not_told() {
        let mut conductor = conductor();
        let delta = json!({"params": {"delta": "x", "turnId": "t1"}});
        assert!(conductor.event(&receipt("req-2")).is_empty());
        assert!(
            conductor.event(&said("item/agentMessage/delta", "thread-1", &delta)).is_empty(),
            "no turn yet"
        );
        conductor.event(&receipt("req-1"));
        for other in [
            said("item/agentMessage/delta", "thread-2", &delta),
            said("item/agentMessage/delta", "thread-1", &json!({"params": {"delta": "x", "turnId": "t2"}})),
            said(
                "item/agentMessage/delta",
                "thread-1",
                &json!({"params": {"delta": "x"}, "request_id": "req-2"}),
            ),
            said("item/agentMessage/delta", "thread-1", &json!({"params": {"delta": "x"}, "source": "ios"})),
            said("turn/completed", "thread-1", &json!({"turn_id": "t2"})),
            event("worker.heartbeat", &json!({})),
            event("worker.event", &json!([1])),
            event("worker.response", &json!({})),
        ] {
            assert!(conductor.event(&other).is_empty(), "{other:?}");
        }
        assert_eq!(
            types(&conductor.event(&said("item/agentMessage/delta", "thread-1", &delta))),
            ["text-start", "text-delta"]
        );
        let end = conductor.event(&said("turn/completed", "thread-1", &json!({"turn_id": "t1"})));
        assert_eq!(types(&end), ["text-end", "finish-step", "finish"]);
        assert!(conductor.is_finished() && conductor.event(&receipt("req-1")).is_empty());
    }

    #[test]
    fn a_worker_that_refuses_or_stops_ends_the_stream_with_an_error() {
        let refusal = json!({"request_id": "req-1", "method": "turn/start", "code": "forbidden", "message": "no",
            "occurred_at": "2026-02-22T00:00:00Z"});
        for ending in [
            event("worker.error", &refusal),
            event("worker.stopped", &json!({})),
            event("worker.failed", &json!({})),
        ] {
            let mut conductor = conductor();
            let chunks = conductor.event(&ending);
            assert_eq!(types(&chunks), ["error", "finish"], "{ending:?}");
            assert!(conductor.is_finished());
        }
    }

    #[test]
    fn a_turn_that_is_not_followed_to_its_end_says_so_once() {
        let mut conductor = conductor();
        let chunks = conductor.cut_off("timeout", "it takes too long");
        assert_eq!(types(&chunks), ["error", "finish"]);
        assert_eq!(chunks[0]["errorText"], "the turn was told without its end: it takes too long");
        assert!(conductor.cut_off("timeout", "again").is_empty());
    }

    #[test]
    fn an_impossible_order_ends_the_stream_with_an_error() {
        let mut conductor = conductor();
        conductor.event(&receipt("req-1"));
        let orphan = json!({"params": {"itemId": "c", "delta": "x"}, "turn_id": "t1"});
        let chunks = conductor.event(&said("item/toolOutput/delta", "thread-1", &orphan));
        assert_eq!(types(&chunks), ["error", "finish"]);
        assert_eq!(chunks[1]["messageMetadata"]["error"]["code"], "adapter_preview_unavailable");
    }
}

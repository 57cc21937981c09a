//! Decides how a run reads as a replay: canonical JSON lines, one event after the other
//! (runtime-core §10.2). Nothing in a payload can make it fail.

use serde_json::{Map, Value, json, value::RawValue};
use uuid::Uuid;

use crate::{
    canonical::{canon, sha256_prefixed, write_canon},
    instant::Timestamp,
    receipt::policy_bundle_id,
    wire::runs::{RunEvent, RunStatus},
};

/// Writes `REPLAY.jsonl` line by line; what it remembers does not grow with the run.
#[derive(Clone, Debug)]
pub struct ReplayWriter {
    session_id: String,
    last_recorded_at: Option<Timestamp>,
    total_tool_calls: u64,
    total_latency_ms: u64,
}

impl ReplayWriter {
    /// Begins a replay: writes `ReplayHeader` and `SessionStart`.
    pub fn begin(run_id: Uuid, metadata: &RawValue, created_at: Timestamp, out: &mut Vec<u8>) -> Self {
        let session_id = run_id.to_string();
        let created_at = created_at.offset();
        let header = json!({
            "event": "ReplayHeader", "replay_version": 1, "producer": "openagents-runtime",
            "created_at": created_at,
        });
        let start = json!({
            "event": "SessionStart", "t": created_at, "session_id": session_id, "issue_number": null,
            "policy_bundle_id": policy_bundle_id(metadata),
        });
        write_line(&header, out);
        write_line(&start, out);
        ReplayWriter { session_id, last_recorded_at: None, total_tool_calls: 0, total_latency_ms: 0 }
    }

    /// Writes the lines of the next event.
    pub fn event(&mut self, event: &RunEvent, out: &mut Vec<u8>) {
        // Stored payloads always parse; one that would not is replayed as the text that it is.
        let payload: Value = serde_json::from_str(event.payload.get())
            .unwrap_or_else(|_| Value::String(event.payload.get().to_owned()));
        match (event.event_type.as_str(), &payload) {
            ("tool", Value::Object(payload)) => self.tool(event, payload, out),
            ("verification", Value::Object(payload)) => write_line(&verification(event, payload), out),
            ("payment", Value::Object(payload)) => write_line(&payment(event, payload), out),
            _ => self.other(event, payload, out),
        }
        self.last_recorded_at = Some(event.recorded_at);
    }

    fn tool(&mut self, event: &RunEvent, payload: &Map<String, Value>, out: &mut Vec<u8>) {
        let id = event.idempotency_key.clone().unwrap_or_else(|| format!("runtime.seq:{}", event.seq));
        let params = payload.get("params").cloned().unwrap_or_else(|| json!({}));
        let params_hash = match payload.get("params_hash").and_then(Value::as_str) {
            Some(hash) => hash.to_owned(),
            None => sha256_prefixed(&canon(&params)),
        };
        let latency_ms = unsigned(payload, "latency_ms");
        let t = event.recorded_at.offset();
        let call = json!({
            "event": "ToolCall", "t": t, "id": id, "tool": text_or(payload, "tool", "unknown"),
            "params": params, "params_hash": params_hash, "step_id": text_or(payload, "step_id", &id),
        });
        let result = json!({
            "event": "ToolResult", "t": t, "id": id,
            "output_hash": text_or(payload, "output_hash", "sha256:unknown"),
            "exit_code": signed(payload, "exit_code"), "step_utility": utility(payload),
            "latency_ms": latency_ms,
        });
        write_line(&call, out);
        write_line(&result, out);
        self.total_tool_calls += 1;
        self.total_latency_ms = self.total_latency_ms.saturating_add(latency_ms);
    }

    fn other(&self, event: &RunEvent, payload: Value, out: &mut Vec<u8>) {
        let mut line = json!({
            "event": "RuntimeEvent", "t": event.recorded_at.offset(), "session_id": self.session_id,
            "seq": event.seq, "runtime_event_type": event.event_type,
            "payload_hash": sha256_prefixed(&canon(&payload)), "idempotency_key": event.idempotency_key,
        });
        line["payload"] = payload;
        write_line(&line, out);
    }

    /// Ends the replay: writes `SessionEnd`, at the last event's time or, without events, at `updated_at`.
    pub fn end(self, status: RunStatus, updated_at: Timestamp, out: &mut Vec<u8>) {
        let (word, confidence) = match status {
            RunStatus::Succeeded => ("success", 1.0),
            RunStatus::Failed => ("failure", 0.0),
            RunStatus::Canceled => ("cancelled", 0.0),
            RunStatus::Created | RunStatus::Running | RunStatus::Canceling => ("success", 0.5),
        };
        let end = json!({
            "event": "SessionEnd", "t": self.last_recorded_at.unwrap_or(updated_at).offset(),
            "status": word, "confidence": confidence,
            "total_tool_calls": self.total_tool_calls, "total_latency_ms": self.total_latency_ms,
        });
        write_line(&end, out);
    }
}

fn verification(event: &RunEvent, payload: &Map<String, Value>) -> Value {
    json!({
        "event": "Verification", "t": event.recorded_at.offset(),
        "commands": [text_or(payload, "command", "unknown")],
        "exit_codes": [signed(payload, "exit_code").unwrap_or(-1)],
        "verification_delta": signed(payload, "verification_delta").unwrap_or(0),
    })
}

fn payment(event: &RunEvent, payload: &Map<String, Value>) -> Value {
    json!({
        "event": "Payment", "t": event.recorded_at.offset(),
        "rail": text_or(payload, "rail", "unknown"), "asset_id": text_or(payload, "asset_id", "unknown"),
        "amount_msats": unsigned(payload, "amount_msats"), "payment_proof": payload.get("payment_proof"),
        "job_hash": payload.get("job_hash").and_then(Value::as_str),
        "status": text_or(payload, "status", "released"),
    })
}

fn text_or<'a>(payload: &'a Map<String, Value>, name: &str, default: &'a str) -> &'a str {
    payload.get(name).and_then(Value::as_str).unwrap_or(default)
}

fn unsigned(payload: &Map<String, Value>, name: &str) -> u64 {
    payload.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn signed(payload: &Map<String, Value>, name: &str) -> Option<i32> {
    payload.get(name).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
}

/// A 32-bit float by its definition, and so printed widened: 0.9 becomes 0.8999999761581421.
fn utility(payload: &Map<String, Value>) -> f32 {
    payload.get("step_utility").and_then(Value::as_f64).unwrap_or(0.0) as f32
}

fn write_line(line: &Value, out: &mut Vec<u8>) {
    write_canon(line, out);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{canonical::hex, golden};
    use sha2::{Digest, Sha256};

    fn replay(events: &[RunEvent], status: RunStatus) -> String {
        let run = golden::run();
        let mut out = Vec::new();
        let mut writer = ReplayWriter::begin(run.id, &run.metadata, run.created_at, &mut out);
        for event in events {
            writer.event(event, &mut out);
        }
        writer.end(status, run.updated_at, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_golden_run_replays_byte_for_byte() {
        let run = golden::run();
        let text = replay(&run.events, run.status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 9);
        for line in [
            r#"{"event":"ToolResult","exit_code":0,"id":"tool-1","latency_ms":42,"output_hash":"sha256:bb","step_utility":0.8999999761581421,"t":"2026-02-01T00:00:02.123456789+00:00"}"#,
            r#"{"event":"RuntimeEvent","idempotency_key":null,"payload":{"source":"runtime"},"payload_hash":"sha256:cf40aa17d3f50914072dc3aff5d5303a7e58348da8e2b98f7b109f45fe564a6e","runtime_event_type":"run.started","seq":1,"session_id":"01951d2a-6c15-7c9f-99c2-cf8ad72a23f0","t":"2026-02-01T00:00:01+00:00"}"#,
            r#"{"confidence":1.0,"event":"SessionEnd","status":"success","t":"2026-02-01T00:00:05.000001+00:00","total_latency_ms":42,"total_tool_calls":1}"#,
        ] {
            assert!(lines.contains(&line), "{line}\nis not in\n{text}");
        }
        assert_eq!(
            hex(&Sha256::digest(text.as_bytes())),
            "40c9e47ca1a6b95549c07a6a0af3e1e2dc5c2f0a1cb2bb4df460e455f8af85aa"
        );
    }

    #[test]
    fn malformed_payloads_are_replayed_with_defaults() {
        let text = replay(
            &[
                golden::event(
                    1,
                    "tool",
                    r#"{"latency_ms":"x","exit_code":99999999999,"step_utility":1e300}"#,
                ),
                golden::event(2, "verification", "{}"),
                golden::event(3, "payment", "{}"),
                golden::event(4, "payment", "null"),
            ],
            RunStatus::Failed,
        );
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let t = r#""t":"2026-02-01T00:00:01+00:00""#;
        let hash = sha256_prefixed("{}");
        assert_eq!(
            lines[0],
            format!(
                r#"{{"event":"ToolCall","id":"runtime.seq:1","params":{{}},"params_hash":"{hash}","step_id":"runtime.seq:1",{t},"tool":"unknown"}}"#
            )
        );
        assert_eq!(
            lines[1],
            format!(
                r#"{{"event":"ToolResult","exit_code":null,"id":"runtime.seq:1","latency_ms":0,"output_hash":"sha256:unknown","step_utility":null,{t}}}"#
            )
        );
        assert_eq!(
            lines[2],
            format!(
                r#"{{"commands":["unknown"],"event":"Verification","exit_codes":[-1],{t},"verification_delta":0}}"#
            )
        );
        assert_eq!(
            lines[3],
            format!(
                r#"{{"amount_msats":0,"asset_id":"unknown","event":"Payment","job_hash":null,"payment_proof":null,"rail":"unknown","status":"released",{t}}}"#
            )
        );
        assert!(
            lines[4].contains(r#""event":"RuntimeEvent""#)
                && lines[4].contains(r#""runtime_event_type":"payment""#)
        );
        assert!(lines[5].contains(r#""confidence":0.0"#) && lines[5].contains(r#""status":"failure""#));
    }

    #[test]
    fn a_run_without_events_ends_when_it_was_updated() {
        let text = replay(&[], RunStatus::Running);
        assert!(text.ends_with("{\"confidence\":0.5,\"event\":\"SessionEnd\",\"status\":\"success\",\"t\":\"2026-02-01T00:00:05.000001+00:00\",\"total_latency_ms\":0,\"total_tool_calls\":0}\n"));
        assert!(
            replay(&[], RunStatus::Canceled)
                .contains("\"confidence\":0.0,\"event\":\"SessionEnd\",\"status\":\"cancelled\"")
        );
    }
}

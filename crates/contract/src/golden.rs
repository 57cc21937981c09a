//! The golden run of runtime-core §21, from which every artifact is computed and compared.

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    chain::ChainHash,
    instant::Timestamp,
    wire::runs::{Actor, Run, RunEvent, RunStatus},
};

const EVENTS: [(&str, &str, Option<&str>, &str); 5] = [
    ("run.started", r#"{"source":"runtime"}"#, None, "2026-02-01T00:00:01Z"),
    (
        "tool",
        r#"{"tool":"shell","params":{"cmd":"ls","b":1.5},"params_hash":"sha256:aa","output_hash":"sha256:bb","latency_ms":42,"side_effects":["fs"],"step_utility":0.9,"exit_code":0}"#,
        Some("tool-1"),
        "2026-02-01T00:00:02.123456789Z",
    ),
    (
        "verification",
        r#"{"command":"cargo test","exit_code":0,"cwd":"/workspace","duration_ms":900}"#,
        Some("verification:job1"),
        "2026-02-01T00:00:03.500Z",
    ),
    (
        "payment",
        r#"{"rail":"lightning","asset_id":"BTC_LN","amount_msats":1500,"payment_proof":{"type":"internal_ledger","reservation_id":"rsv_1","provider_id":"prov-1"},"job_hash":"job1","status":"released"}"#,
        Some("payment:job1:released"),
        "2026-02-01T00:00:04Z",
    ),
    ("run.finished", r#"{"status":"succeeded"}"#, Some("fin"), "2026-02-01T00:00:05.000001Z"),
];

pub(crate) fn moment(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a timestamp")
}

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

/// An event that is not part of any chain.
pub(crate) fn event(seq: u64, event_type: &str, payload: &str) -> RunEvent {
    RunEvent {
        seq,
        event_type: event_type.to_owned(),
        payload: raw(payload),
        idempotency_key: None,
        recorded_at: moment("2026-02-01T00:00:01Z"),
        actor: Actor::Service,
        hash: String::new(),
    }
}

pub(crate) fn run() -> Run {
    let id: Uuid = "01951d2a-6c15-7c9f-99c2-cf8ad72a23f0".parse().expect("an id");
    let mut link = ChainHash::genesis(id);
    let mut events = Vec::new();
    for ((event_type, payload, key, at), seq) in EVENTS.into_iter().zip(1..) {
        let mut event = RunEvent {
            idempotency_key: key.map(str::to_owned),
            recorded_at: moment(at),
            ..event(seq, event_type, payload)
        };
        link = link.next(&event);
        event.hash = link.to_string();
        events.push(event);
    }
    Run {
        id,
        worker_id: None,
        status: RunStatus::Succeeded,
        metadata: raw(r#"{"policy_bundle_id":"policy.golden.v1","z":1,"a":2}"#),
        events,
        created_at: moment("2026-02-01T00:00:00.250Z"),
        updated_at: moment("2026-02-01T00:00:05.000001Z"),
    }
}

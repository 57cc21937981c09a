//! Decides what a log comes to: the fold of events into a checkpoint, a summary and, where a sequence
//! number is missing, a drift report (runtime-core §11).

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    canonical::{sha256_prefixed, write_string, write_u64},
    instant::Timestamp,
    wire::projectors::{Checkpoint, Drift, RunSummary},
};

/// What a worker's lifecycle comes to (§11); no route shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerSummary {
    pub worker_id: String,
    pub status: String,
    pub last_seq: u64,
    pub event_count: u64,
    pub projection_hash: String,
    pub updated_at: Timestamp,
}

/// The topic of a run's events.
pub fn run_topic(run_id: Uuid) -> String {
    format!("run:{run_id}:events")
}

/// The topic of a worker's lifecycle.
pub fn worker_topic(worker_id: &str) -> String {
    format!("worker:{worker_id}:lifecycle")
}

/// `projection_hash` of a run summary: its members in this order, which is not the sorted one.
pub fn projection_hash(run_id: Uuid, status: &str, last_seq: u64, event_count: u64) -> String {
    hash_members("run_id", &run_id.to_string(), status, last_seq, event_count)
}

/// `projection_hash` of a worker summary.
pub fn worker_projection_hash(worker_id: &str, status: &str, last_seq: u64, event_count: u64) -> String {
    hash_members("worker_id", worker_id, status, last_seq, event_count)
}

fn hash_members(id_name: &str, id: &str, status: &str, last_seq: u64, event_count: u64) -> String {
    let mut text = String::with_capacity(128);
    text.push('{');
    write_string(id_name, &mut text);
    text.push(':');
    write_string(id, &mut text);
    text.push_str(",\"status\":");
    write_string(status, &mut text);
    text.push_str(",\"last_seq\":");
    write_u64(last_seq, &mut text);
    text.push_str(",\"event_count\":");
    write_u64(event_count, &mut text);
    text.push('}');
    sha256_prefixed(&text)
}

/// The status of a run summary before its first event.
pub const RUN_BEGINS: &str = "created";

/// The status of a run summary after an event, or `None` where it stays. The finishing word is taken as
/// it was written, unlike the run's own status.
pub fn run_status<'a>(event_type: &str, payload: &'a Value) -> Option<&'a str> {
    match event_type {
        "run.started" => Some("running"),
        "run.cancel_requested" => Some("canceling"),
        "run.finished" => payload.get("status").and_then(Value::as_str),
        _ => None,
    }
}

/// The status of a worker summary after an event.
pub fn worker_status<'a>(event_type: &'a str, payload: &'a Value) -> &'a str {
    let said = payload.get("status").and_then(Value::as_str);
    said.unwrap_or_else(|| event_type.strip_prefix("worker.").unwrap_or(event_type))
}

/// What to do with an incoming event of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Projected before.
    Ignore,
    Accept,
    /// Accept, and report that events are missing in between.
    AcceptAfterGap {
        expected_next_seq: u64,
        last_seen_seq: u64,
    },
}

/// Compares an incoming sequence number with the checkpoint's, if there is one.
pub fn step(last_seq: Option<u64>, incoming: u64) -> Step {
    let seen = last_seq.unwrap_or(0);
    if last_seq.is_some() && incoming <= seen {
        Step::Ignore
    } else if incoming > seen.saturating_add(1) {
        Step::AcceptAfterGap { expected_next_seq: seen + 1, last_seen_seq: seen }
    } else {
        Step::Accept
    }
}

/// One event on its way into a projection.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub seq: u64,
    pub event_type: &'a str,
    pub payload: &'a Value,
    pub at: Timestamp,
}

impl Incoming<'_> {
    fn checkpoint(&self, topic: String) -> Checkpoint {
        Checkpoint {
            topic,
            last_seq: self.seq,
            last_event_type: self.event_type.to_owned(),
            updated_at: self.at,
        }
    }

    fn drift(&self, step: Step, topic: &str) -> Option<Drift> {
        let Step::AcceptAfterGap { expected_next_seq, last_seen_seq } = step else { return None };
        Some(Drift {
            topic: topic.to_owned(),
            expected_next_seq,
            last_seen_seq,
            incoming_seq: self.seq,
            reason: "sequence_gap".to_owned(),
            detected_at: self.at,
        })
    }
}

/// What accepting an event leads to; `drift` only where there was a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected<S> {
    pub checkpoint: Checkpoint,
    pub summary: S,
    pub drift: Option<Drift>,
}

/// Projects an event of a run onto what stands; `None` if it was projected before.
pub fn project_run(
    run_id: Uuid,
    standing: Option<&RunSummary>,
    event: Incoming<'_>,
) -> Option<Projected<RunSummary>> {
    let step = step(standing.map(|summary| summary.last_seq), event.seq);
    if step == Step::Ignore {
        return None;
    }
    let before = standing.map_or(RUN_BEGINS, |summary| &summary.status);
    let status = run_status(event.event_type, event.payload).unwrap_or(before);
    let event_count = standing.map_or(0, |summary| summary.event_count) + 1;
    let topic = run_topic(run_id);
    Some(Projected {
        drift: event.drift(step, &topic),
        checkpoint: event.checkpoint(topic),
        summary: RunSummary {
            run_id,
            status: status.to_owned(),
            last_seq: event.seq,
            event_count,
            projection_hash: projection_hash(run_id, status, event.seq, event_count),
            updated_at: event.at,
        },
    })
}

/// Projects an event of a worker onto what stands; `None` if it was projected before.
pub fn project_worker(
    worker_id: &str,
    standing: Option<&WorkerSummary>,
    event: Incoming<'_>,
) -> Option<Projected<WorkerSummary>> {
    let step = step(standing.map(|summary| summary.last_seq), event.seq);
    if step == Step::Ignore {
        return None;
    }
    let status = worker_status(event.event_type, event.payload);
    let event_count = standing.map_or(0, |summary| summary.event_count) + 1;
    let topic = worker_topic(worker_id);
    Some(Projected {
        drift: event.drift(step, &topic),
        checkpoint: event.checkpoint(topic),
        summary: WorkerSummary {
            worker_id: worker_id.to_owned(),
            status: status.to_owned(),
            last_seq: event.seq,
            event_count,
            projection_hash: worker_projection_hash(worker_id, status, event.seq, event_count),
            updated_at: event.at,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use serde_json::json;

    fn incoming<'a>(seq: u64, event_type: &'a str, payload: &'a Value) -> Incoming<'a> {
        Incoming { seq, event_type, payload, at: Timestamp::from_unix_seconds(seq as i64) }
    }

    #[test]
    fn the_golden_run_comes_to_the_golden_hash() {
        let run = golden::run();
        let mut summary: Option<RunSummary> = None;
        for event in &run.events {
            let payload = serde_json::from_str(event.payload.get()).expect("JSON");
            let projected =
                project_run(run.id, summary.as_ref(), incoming(event.seq, &event.event_type, &payload))
                    .expect("a new event");
            assert_eq!(projected.drift, None);
            summary = Some(projected.summary);
        }
        let summary = summary.expect("a summary");
        assert_eq!((summary.status.as_str(), summary.last_seq, summary.event_count), ("succeeded", 5, 5));
        assert_eq!(
            summary.projection_hash,
            "sha256:b538cd67e5ccb50a725fa25cfd5bc88f081259ed86c44cdff48cf367f7109bd3"
        );
    }

    #[test]
    fn the_finishing_word_is_kept_as_it_was_written() {
        assert_eq!(run_status("run.finished", &json!({"status": "cancelled"})), Some("cancelled"));
        assert_eq!(run_status("run.finished", &json!({"status": 1})), None);
        assert_eq!(run_status("run.started", &Value::Null), Some("running"));
        assert_eq!(run_status("run.cancel_requested", &Value::Null), Some("canceling"));
        assert_eq!(run_status("tool", &json!({"status": "x"})), None);
    }

    #[test]
    fn an_event_seen_before_changes_nothing() {
        let first = project_run(Uuid::nil(), None, incoming(1, "tool", &Value::Null)).expect("new").summary;
        assert_eq!(first.status, RUN_BEGINS);
        assert_eq!(project_run(Uuid::nil(), Some(&first), incoming(1, "run.started", &Value::Null)), None);
    }

    #[test]
    fn a_gap_is_accepted_and_reported() {
        let first = project_run(Uuid::nil(), None, incoming(3, "tool", &Value::Null)).expect("new");
        let drift = first.drift.expect("a gap");
        assert_eq!((drift.expected_next_seq, drift.last_seen_seq, drift.incoming_seq), (1, 0, 3));
        assert_eq!(drift.reason, "sequence_gap");
        let next =
            project_run(Uuid::nil(), Some(&first.summary), incoming(7, "tool", &Value::Null)).expect("new");
        let drift = next.drift.expect("a gap");
        assert_eq!((drift.expected_next_seq, drift.last_seen_seq, drift.incoming_seq), (4, 3, 7));
        assert_eq!((next.summary.last_seq, next.summary.event_count), (7, 2));
        assert_eq!(next.checkpoint.topic, "run:00000000-0000-0000-0000-000000000000:events");
    }

    #[test]
    fn a_worker_says_its_status_or_its_event_does() {
        let said = project_worker("w1", None, incoming(1, "worker.started", &json!({"status": "running"})));
        assert_eq!(said.map(|projected| projected.summary.status).as_deref(), Some("running"));
        assert_eq!(worker_status("worker.stopped", &Value::Null), "stopped");
    }

    #[test]
    fn the_hash_of_a_worker_begins_with_its_id() {
        assert_eq!(
            worker_projection_hash("w\"1", "running", 2, 2),
            sha256_prefixed(r#"{"worker_id":"w\"1","status":"running","last_seq":2,"event_count":2}"#)
        );
    }
}

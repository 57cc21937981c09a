//! Decides which event moves a run from one status to another, and which moves are refused
//! (runtime-core §9.2).

use serde_json::{Value, value::RawValue};

use crate::{refusal::Refusal, wire::runs::RunStatus};

/// What an event asks of the run's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    Start,
    RequestCancel,
    FinishSucceeded,
    FinishFailed,
    FinishCanceled,
}

impl Transition {
    /// Reads the transition of an event (§9.2); `None` for the many event types that ask for none.
    pub fn parse(event_type: &str, payload: &Value) -> Result<Option<Self>, Refusal> {
        match event_type {
            "run.started" => Ok(Some(Transition::Start)),
            "run.cancel_requested" => Ok(Some(Transition::RequestCancel)),
            "run.finished" => finish(payload.get("status").and_then(Value::as_str)).map(Some),
            _ => Ok(None),
        }
    }

    /// The same from stored text, which is only parsed where the payload matters.
    pub fn of(event_type: &str, payload: &RawValue) -> Result<Option<Self>, Refusal> {
        if event_type != "run.finished" {
            return Self::parse(event_type, &Value::Null);
        }
        Self::parse(event_type, &serde_json::from_str(payload.get()).unwrap_or_default())
    }

    /// The name in refusals.
    pub const fn name(self) -> &'static str {
        match self {
            Transition::Start => "Start",
            Transition::RequestCancel => "RequestCancel",
            Transition::FinishSucceeded => "FinishSucceeded",
            Transition::FinishFailed => "FinishFailed",
            Transition::FinishCanceled => "FinishCanceled",
        }
    }

    const fn target(self) -> RunStatus {
        match self {
            Transition::Start => RunStatus::Running,
            Transition::RequestCancel => RunStatus::Canceling,
            Transition::FinishSucceeded => RunStatus::Succeeded,
            Transition::FinishFailed => RunStatus::Failed,
            Transition::FinishCanceled => RunStatus::Canceled,
        }
    }
}

fn finish(status: Option<&str>) -> Result<Transition, Refusal> {
    match status {
        Some("succeeded") => Ok(Transition::FinishSucceeded),
        Some("failed") => Ok(Transition::FinishFailed),
        Some("canceled" | "cancelled") => Ok(Transition::FinishCanceled),
        Some(other) => Err(Refusal::invalid(format!("invalid run.finished payload.status: {other}"))),
        None => Err(Refusal::invalid("run.finished requires payload.status")),
    }
}

/// The status after the transition, or the refusal of §9.2.
pub fn apply(from: RunStatus, transition: Transition) -> Result<RunStatus, Refusal> {
    let to = transition.target();
    let allowed = match from {
        RunStatus::Created | RunStatus::Running => true,
        // Once a cancel is asked for, a run may no longer succeed.
        RunStatus::Canceling => !matches!(to, RunStatus::Running | RunStatus::Succeeded),
        RunStatus::Succeeded | RunStatus::Failed | RunStatus::Canceled => to == from,
    };
    if allowed {
        return Ok(to);
    }
    let (from, name) = (status_name(from), transition.name());
    Err(Refusal::invalid(format!("invalid run transition: {from} -> {name}")))
}

/// The status as refusals spell it.
const fn status_name(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Created => "Created",
        RunStatus::Running => "Running",
        RunStatus::Canceling => "Canceling",
        RunStatus::Canceled => "Canceled",
        RunStatus::Succeeded => "Succeeded",
        RunStatus::Failed => "Failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;
    use serde_json::json;

    const ALL: [Transition; 5] = [
        Transition::Start,
        Transition::RequestCancel,
        Transition::FinishSucceeded,
        Transition::FinishFailed,
        Transition::FinishCanceled,
    ];

    #[test]
    fn the_table_of_transitions_is_the_specified_one() {
        use RunStatus::*;
        let table = [
            (Created, [Some(Running), Some(Canceling), Some(Succeeded), Some(Failed), Some(Canceled)]),
            (Running, [Some(Running), Some(Canceling), Some(Succeeded), Some(Failed), Some(Canceled)]),
            (Canceling, [None, Some(Canceling), None, Some(Failed), Some(Canceled)]),
            (Succeeded, [None, None, Some(Succeeded), None, None]),
            (Failed, [None, None, None, Some(Failed), None]),
            (Canceled, [None, None, None, None, Some(Canceled)]),
        ];
        for (from, row) in table {
            for (transition, to) in ALL.into_iter().zip(row) {
                assert_eq!(apply(from, transition).ok(), to, "{from:?} {transition:?}");
            }
        }
    }

    #[test]
    fn a_forbidden_transition_is_refused_with_both_names() {
        let refusal = apply(RunStatus::Succeeded, Transition::RequestCancel).expect_err("a refusal");
        assert_eq!(refusal.code, Code::InvalidRequest);
        assert_eq!(refusal.message, "invalid run transition: Succeeded -> RequestCancel");
        let refusal = apply(RunStatus::Canceling, Transition::FinishSucceeded).expect_err("a refusal");
        assert_eq!(refusal.message, "invalid run transition: Canceling -> FinishSucceeded");
    }

    #[test]
    fn both_spellings_of_canceled_are_read() {
        for status in ["canceled", "cancelled"] {
            let parsed = Transition::parse("run.finished", &json!({"status": status}));
            assert_eq!(parsed, Ok(Some(Transition::FinishCanceled)));
        }
    }

    #[test]
    fn a_finish_without_a_usable_status_is_refused() {
        let message =
            |payload: Value| Transition::parse("run.finished", &payload).expect_err("a refusal").message;
        for payload in [json!(null), json!({}), json!({"status": 1}), json!("succeeded")] {
            assert_eq!(message(payload), "run.finished requires payload.status");
        }
        assert_eq!(message(json!({"status": "done"})), "invalid run.finished payload.status: done");
    }

    #[test]
    fn other_events_ask_for_nothing() {
        assert_eq!(Transition::parse("tool", &json!({"status": "succeeded"})), Ok(None));
        assert_eq!(Transition::parse("run.step.completed", &Value::Null), Ok(None));
    }

    #[test]
    fn stored_text_is_read_like_a_parsed_payload() {
        let payload = RawValue::from_string(r#"{"status":"failed"}"#.to_owned()).expect("JSON");
        assert_eq!(Transition::of("run.finished", &payload), Ok(Some(Transition::FinishFailed)));
        assert_eq!(Transition::of("run.started", &payload), Ok(Some(Transition::Start)));
        assert_eq!(Transition::of("tool", &payload), Ok(None));
    }
}

//! Runs and their events as they stand on the wire (runtime-core §9). The same types are what the store
//! returns and what artifacts are computed from, so that there is one concept of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::instant::Timestamp;

/// The states of runtime-core §9.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    Created,
    Running,
    Canceling,
    Canceled,
    Succeeded,
    Failed,
}

impl RunStatus {
    /// The word on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            RunStatus::Created => "created",
            RunStatus::Running => "running",
            RunStatus::Canceling => "canceling",
            RunStatus::Canceled => "canceled",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Created, Self::Running, Self::Canceling, Self::Canceled, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// Nothing but an equal finish may follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, RunStatus::Canceled | RunStatus::Succeeded | RunStatus::Failed)
    }
}

/// Who appended an event: the service itself, or a caller (runtime-core §23.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    Service,
    Caller,
}

/// One entry of a run's log. `seq` counts from 1 without a gap.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunEvent {
    pub seq: u64,
    pub event_type: String,
    /// Any JSON, with its own order of keys.
    #[schemars(with = "serde_json::Value")]
    pub payload: Box<RawValue>,
    pub idempotency_key: Option<String>,
    pub recorded_at: Timestamp,
    /// Who appended it. Not part of the specified shape; readers may ignore it.
    pub actor: Actor,
    /// The link of the run's hash chain that ends here, 64 hex digits (docs/receipts.md).
    pub hash: String,
}

/// A run with its events in ascending `seq`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub id: Uuid,
    pub worker_id: Option<String>,
    pub status: RunStatus,
    /// As posted; `null` if it was omitted.
    #[schemars(with = "serde_json::Value")]
    pub metadata: Box<RawValue>,
    pub events: Vec<RunEvent>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST /internal/v1/runs` (§9.4).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"worker_id": "desktop:builder-3", "metadata": {"policy_bundle_id": "policy.build.v2", "repo": "acme/api"}}))]
pub struct StartRun {
    /// Free text, not checked against the registry.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// Any JSON, at most 256 KiB; `null` if omitted.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub metadata: Option<Box<RawValue>>,
    /// With a key, the same content answers with the same run for ever, other content with 409. Without one,
    /// each call begins a run.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// `POST /internal/v1/runs/:run_id/events` (§9.3, §9.4).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"event_type": "run.step.completed", "payload": {"step": 1, "label": "compile"}, "idempotency_key": "step-1", "expected_previous_seq": 1}))]
pub struct AppendEvent {
    /// Trimmed; not blank, not `payment`.
    pub event_type: String,
    /// Any JSON, at most 256 KiB; `null` if omitted.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub payload: Option<Box<RawValue>>,
    /// Trimmed; blank means none. The scope is the run.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The last sequence number that the caller has seen; another one is 409. Not looked at on a replay.
    #[serde(default)]
    pub expected_previous_seq: Option<u64>,
}

/// Which events of a run to answer with; all of them by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventWindow {
    /// Only events after this sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// At most so many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl crate::operation::Query for EventWindow {}
impl crate::operation::Body for StartRun {}
impl crate::operation::Body for AppendEvent {}

/// `{"run": …}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunReply {
    pub run: Run,
}

/// What `Prefer: return=minimal` answers: which event the append became, whether now or in an earlier attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPosition {
    pub run_id: Uuid,
    pub seq: u64,
    /// The link of the run's hash chain that ends with this event.
    pub hash: String,
}

/// The answer of an append: the whole run by default, the position with `Prefer: return=minimal`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Appended {
    Run(Box<RunReply>),
    Position(EventPosition),
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListRuns {
    /// 1 to 200, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// `next` of an earlier answer: continue behind this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Uuid>,
}

impl crate::operation::Query for ListRuns {}

/// A run without its events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunLine {
    pub id: Uuid,
    pub worker_id: Option<String>,
    pub status: RunStatus,
    pub latest_seq: u64,
    #[schemars(with = "serde_json::Value")]
    pub metadata: Box<RawValue>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunList {
    pub runs: Vec<RunLine>,
    /// Give this as `before` for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Uuid>,
}

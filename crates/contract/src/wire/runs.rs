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

//! Projections of logs: where they stand, what they sum up, and whether they drifted (runtime-core §11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{instant::Timestamp, operation};

/// How far the projection of a topic has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    pub topic: String,
    pub last_seq: u64,
    pub last_event_type: String,
    pub updated_at: Timestamp,
}

/// A place where a projection does not follow its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    pub topic: String,
    pub expected_next_seq: u64,
    pub last_seen_seq: u64,
    pub incoming_seq: u64,
    pub reason: String,
    pub detected_at: Timestamp,
}

/// A run in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    pub run_id: uuid::Uuid,
    /// `payload.status` of `run.finished` is kept as written, so `cancelled` may stand here.
    pub status: String,
    pub last_seq: u64,
    pub event_count: u64,
    pub projection_hash: String,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointReply {
    pub checkpoint: Checkpoint,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummaryReply {
    pub summary: RunSummary,
}

/// Whether a recorded drift still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftStatus {
    /// The projection differs from its log now.
    Open,
    /// It was rebuilt or has caught up since.
    Resolved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftReply {
    pub drift: Drift,
    pub status: DriftStatus,
}

/// Which topic to look at: `run:<run_id>:events` or `worker:<worker_id>:lifecycle`, matched exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftTopic {
    #[schemars(regex(pattern = r"\S"))]
    pub topic: String,
}

impl operation::Query for DriftTopic {}

/// What a rebuild found and made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildReply {
    pub summary: RunSummary,
    /// Whether the projection had differed from its log.
    pub repaired: bool,
}

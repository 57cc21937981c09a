//! Delivery: counters of the publisher, and how a stream is followed (runtime-core §12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{instant::Timestamp, operation};

/// Counters since the process started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncMetrics {
    /// `spacetime_ws`, the name of the lane that clients know.
    pub transport: String,
    pub mirror: Mirror,
    pub delivery: Delivery,
    pub generated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mirror {
    pub published_total: u64,
    pub duplicate_suppressed_total: u64,
    pub failed_total: u64,
    /// duplicates · 100 / published; 0.0 when nothing was published.
    pub duplicate_suppression_rate_pct: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    pub stream_count: u64,
    pub event_count: u64,
    /// Subscribers connected now.
    pub subscriber_count: u64,
    /// Outbox entries not yet published.
    pub outbox_depth: u64,
    /// Outbox entries that were given up after their last attempt.
    pub dead_letter_count: u64,
    /// Subscriptions refused because their position is no longer kept.
    pub stale_cursor_total: u64,
}

/// Where to begin. `Last-Event-ID` wins over `after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FollowStream {
    /// Only events after this sequence number; 0, the default, begins with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// End the stream at its present head instead of waiting for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_head: Option<bool>,
}

impl operation::Query for FollowStream {}

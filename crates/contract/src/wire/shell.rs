//! The pages and probes around the API (control §16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Data, Media};

/// A page for people.
pub struct Html;
impl Media for Html {
    const TYPE: &'static str = "text/html; charset=utf-8";
}

/// `GET /api/smoke/stream`: that a deployment would deliver streams, and what they carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamSmoke {
    /// `ok`.
    pub status: String,
    /// `spacetime_ws`.
    pub stream_protocol: String,
    pub delivery: SmokeDelivery,
    pub event_contract: EventContract,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmokeDelivery {
    pub transport: String,
    pub topic: String,
    pub scope: String,
    #[serde(rename = "syncTokenRoute")]
    pub sync_token_route: String,
    #[serde(rename = "sseEnabled")]
    pub sse_enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventContract {
    pub chat: Vec<String>,
    pub worker: Vec<String>,
}

pub type StreamSmokeReply = Data<StreamSmoke>;

//! Autopilots, the personal agents of a user (control §19), and the threads that are bound to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Body, Data, Query};

/// What stands behind `GET /api/autopilots?` and `GET /api/autopilots/:autopilot/threads?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListAutopilots {
    /// 50 without one; brought into 1 to 200.
    #[serde(default)]
    pub limit: Option<i64>,
    /// The `next` of an earlier page.
    #[serde(default)]
    pub before: Option<String>,
}

impl Query for ListAutopilots {}

/// What an autopilot may use and spend. What is absent is not limited here; a limit can only tighten what the
/// organisation and the service allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutopilotPolicy {
    /// Tool packs and operations, the only ones that it may use; `*` means all, an empty list says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub tool_allowlist: Option<Vec<String>>,
    /// Tool packs and operations that it may not use, whatever else is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub tool_denylist: Option<Vec<String>>,
    /// Whether every payment awaits its owner's approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l402_require_approval: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l402_max_spend_msats_per_call: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l402_max_spend_msats_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub l402_allowed_hosts: Option<Vec<String>>,
}

/// An autopilot as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Autopilot {
    pub id: String,
    /// Unique among those of the owner.
    pub handle: String,
    pub display_name: String,
    pub avatar: Option<String>,
    pub tagline: Option<String>,
    /// `active`, `disabled` or `archived`.
    pub status: String,
    /// `private`, `discoverable` or `public`.
    pub visibility: String,
    /// The driver that the autopilot is bound to. What was stored under a retired label is shown and prefers none.
    pub runtime_type: Option<String>,
    pub policy: AutopilotPolicy,
    pub created_at: String,
    pub updated_at: String,
}

/// The autopilots of the caller, the last changed first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AutopilotList {
    pub data: Vec<Autopilot>,
    /// Where older ones begin, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

pub type AutopilotReply = Data<Autopilot>;

/// `POST /api/autopilots`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = serde_json::json!({"handle": "scout", "displayName": "Scout", "policy": {"l402MaxSpendMsatsPerCall": 100000}}))]
pub struct CreateAutopilot {
    /// 1 to 64 of `a-z 0-9 - _`, beginning with a letter or a digit; made from the name without one.
    #[serde(default)]
    pub handle: Option<String>,
    /// At most 120 characters; `Autopilot` without one.
    #[serde(default, alias = "display_name")]
    pub display_name: Option<String>,
    /// At most 2048 characters.
    #[serde(default)]
    pub avatar: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub tagline: Option<String>,
    /// `active` (the usual), `disabled` or `archived`.
    #[serde(default)]
    pub status: Option<String>,
    /// `private` (the usual), `discoverable` or `public`.
    #[serde(default)]
    pub visibility: Option<String>,
    /// The driver that its threads prefer: `control_service` or `runtime_service`; none without one.
    #[serde(default, alias = "runtime_type")]
    pub runtime_type: Option<String>,
    #[serde(default, deserialize_with = "super::object")]
    pub policy: Option<AutopilotPolicy>,
}

impl Body for CreateAutopilot {}

/// `POST /api/autopilots/:autopilot/threads`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"title": "Find a bug"}))]
pub struct CreateAutopilotThread {
    /// At most 200 characters.
    #[serde(default)]
    pub title: Option<String>,
}

impl Body for CreateAutopilotThread {}

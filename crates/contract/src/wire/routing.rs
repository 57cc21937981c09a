//! Where pages and runs would be served (control §9): what is asked of the route split and the routing of runs, and what
//! they decide. How both stand is in [`super::control`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::{DriverOverride, RouteSplitStatus, RuntimeRoutingStatus};
use crate::operation::{Body, Data};

/// `GET /api/v1/control/route-split/status`.
pub type RouteSplitStatusReply = Data<RouteSplitStatus>;

/// `POST /api/v1/control/route-split/evaluate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"path": "/chat/x/", "cohort_key": "k"}))]
#[schemars(extend("required" = ["path"]))]
pub struct EvaluateRouteSplit {
    /// The path of a page.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub path: Option<String>,
    /// Otherwise the header `x-oa-route-key`, `x-device-id`, `x-forwarded-for` or `user-agent`, otherwise `anonymous`.
    #[serde(default)]
    pub cohort_key: Option<String>,
}

impl Body for EvaluateRouteSplit {}

/// Where a page would be served, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteSplitDecision {
    /// Trimmed, with one slash at its beginning and none at its end.
    pub path: String,
    /// `legacy` or `rust_shell`.
    pub target: String,
    pub reason: String,
    pub route_domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort_bucket: Option<u32>,
    pub cohort_key: String,
}

pub type RouteSplitDecisionReply = Data<RouteSplitDecision>;

/// `POST /api/v1/control/route-split/override`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"target": "legacy", "domain": "billing_l402"}))]
#[schemars(extend("required" = ["target"]))]
pub struct OverrideRouteSplit {
    /// `legacy`; `rust` or `rust_shell`; `clear` or `default`; `rollback`; and for a domain `htmx_fragment` or
    /// `htmx_on`, `htmx_full_page` or `htmx_off`, `htmx_rollback`, `htmx_clear`.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub target: Option<String>,
    /// A group of routes; everything without one.
    #[serde(default)]
    pub domain: Option<String>,
}

impl Body for OverrideRouteSplit {}

/// `GET /api/v1/control/runtime-routing/status`.
pub type RuntimeRoutingStatusReply = Data<RuntimeRoutingStatus>;

/// `POST /api/v1/control/runtime-routing/evaluate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"thread_id": "thread-1"}))]
#[schemars(extend("required" = ["thread_id"]))]
pub struct EvaluateRuntimeRouting {
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub thread_id: Option<String>,
    /// Nobody but the caller.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Otherwise the thread's.
    #[serde(default)]
    pub autopilot_id: Option<String>,
}

impl Body for EvaluateRuntimeRouting {}

/// Which driver would serve a thread, and why. Drivers are `control_service` and `runtime_service`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRoutingDecision {
    pub driver: String,
    pub reason: String,
    pub default_driver: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_driver: Option<String>,
    pub force_control_service: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_override: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot_override: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot_binding_driver: Option<String>,
    /// `user` or `autopilot`, when a canary decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot_id: Option<String>,
    pub shadow: ShadowDecision,
}

/// Whether a second driver would be asked in the shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowDecision {
    pub enabled: bool,
    pub mirrored: bool,
    pub sample_rate: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_driver: Option<String>,
}

pub type RuntimeRoutingDecisionReply = Data<RuntimeRoutingDecision>;

/// `POST /api/v1/control/runtime-routing/override`. A scope has one override; another one takes its place.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"scope_type": "user", "scope_id": "user_4577", "driver": "runtime", "reason": "canary"}))]
#[schemars(extend("required" = ["scope_type", "scope_id", "driver"]))]
pub struct OverrideRuntimeRouting {
    /// `user` or `autopilot`.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub scope_type: Option<String>,
    /// 1 to 160 characters.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub scope_id: Option<String>,
    /// `control_service` (or `control`), `runtime_service` (or `runtime`).
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"\S"))]
    pub driver: Option<String>,
    /// `true` without one.
    #[serde(default)]
    pub is_active: Option<bool>,
    /// At most 255 characters; what was said before goes.
    #[serde(default)]
    pub reason: Option<String>,
    /// Anything of at most 64 KiB; without one what was there stays.
    #[serde(default)]
    pub meta: Option<Value>,
}

impl Body for OverrideRuntimeRouting {}

/// The override as it is now, and how routing stands with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverriddenRouting {
    #[serde(rename = "override")]
    pub changed: DriverOverride,
    pub status: RuntimeRoutingStatus,
}

pub type OverriddenRoutingReply = Data<OverriddenRouting>;

//! The control service's own answers (control §8.2, §9): what it is, how it routes, who owns each row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::identity::Membership;

/// `GET /api/v1/control/status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusReply {
    pub data: ControlStatus,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    pub service: String,
    /// `mock`, or `workos` for every other provider.
    pub auth_provider: String,
    pub active_org_id: String,
    pub memberships: Vec<Membership>,
    pub compatibility: ClientCompatibility,
    pub route_split: RouteSplitStatus,
    pub runtime_routing: RuntimeRoutingStatus,
    /// The 22 `/api/runtime/*` rows, in the order of the route-ownership document.
    pub runtime_route_ownership: Vec<RouteOwnership>,
    pub sync_cutover: SyncCutover,
}

/// One row of the route-ownership contract (control §8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteOwnership {
    /// Upper case.
    pub method: String,
    /// With `:name` for a parameter.
    pub path: String,
    /// `control_service` or `runtime_service`.
    pub owner: String,
    /// `in_process` or `runtime_proxy`.
    pub delivery: String,
    /// `control_native` or `runtime_authority_proxy`.
    pub migration_status: String,
    /// Why the row is there.
    pub rationale: String,
}

/// Which clients the `/api/v1/control/*` lane is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCompatibility {
    pub protocol_version: String,
    pub min_client_build_id: String,
    pub max_client_build_id: Option<String>,
    pub min_schema_version: u32,
    pub max_schema_version: u32,
}

/// Where the pages of the former web shell are served from (control §9.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteSplitStatus {
    pub enabled: bool,
    /// `legacy`, `rust` or `cohort`.
    pub mode: String,
    pub cohort_percentage: u8,
    pub rust_routes: Vec<String>,
    pub force_legacy: bool,
    pub legacy_base_url: Option<String>,
    pub override_target: Option<String>,
    pub route_groups: Vec<RouteGroup>,
    pub rollback_matrix: BTreeMap<String, String>,
    pub domain_overrides: BTreeMap<String, String>,
    pub htmx_rollback_matrix: BTreeMap<String, String>,
    pub htmx_domain_overrides: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteGroup {
    pub domain: String,
    pub route_prefixes: Vec<String>,
    pub rollback_target: String,
    pub override_target: Option<String>,
    pub htmx_default_mode: String,
    pub htmx_rollback_mode: String,
    pub htmx_override_mode: Option<String>,
}

/// Which driver a thread would be given to (control §9.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRoutingStatus {
    /// `control_service` or `runtime_service`.
    pub default_driver: String,
    pub forced_driver: Option<String>,
    pub force_control_service: bool,
    pub overrides_enabled: bool,
    pub canary_user_percent: u8,
    pub canary_autopilot_percent: u8,
    pub shadow: ShadowStatus,
    /// Newest change first.
    pub overrides: Vec<DriverOverride>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowStatus {
    pub enabled: bool,
    pub sample_rate: f64,
    pub max_capture_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DriverOverride {
    pub id: String,
    pub scope_type: String,
    pub scope_id: String,
    pub driver: String,
    pub is_active: bool,
    pub reason: Option<String>,
    pub meta: Option<serde_json::Value>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncCutover {
    pub default_transport: String,
    pub spacetime_token_route: String,
}

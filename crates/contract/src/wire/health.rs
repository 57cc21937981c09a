//! Whether a service lives and whether it can work (runtime-core §6, control §16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeHealth {
    /// `ok`.
    pub status: String,
    pub service: String,
    pub build_sha: String,
    pub uptime_seconds: i64,
    pub authority_write_mode: String,
    pub authority_writer_active: bool,
    pub db_configured: bool,
}

/// 200 when ready, 503 when not; the same body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeReadiness {
    /// `ready` or `not_ready`.
    pub status: String,
    /// The store took a write and gave it back.
    pub authority_ready: bool,
    /// The publisher keeps up.
    pub projector_ready: bool,
    /// The worker sweeper runs.
    pub workers_ready: bool,
    pub authority_writer_active: bool,
    /// What is wrong, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is worse than it could be, though everything works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControlHealth {
    /// `ok`.
    pub status: String,
    pub service: String,
    pub version: String,
    pub uptime_seconds: i64,
    pub auth_provider: String,
}

/// 200 when ready, 503 when not; the same body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ControlReadiness {
    /// `ready` or `not_ready`.
    pub status: String,
    pub static_dir: String,
    /// The store took a write and gave it back.
    pub store_ready: bool,
    /// Whether sync tokens can be signed; reported, not required.
    #[serde(default)]
    pub sync_tokens_ready: bool,
    /// Whether a runtime is configured; reported, not required.
    pub runtime_configured: bool,
    /// What is wrong, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

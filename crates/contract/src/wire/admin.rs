//! Operator acts of the runtime outside `/internal/v1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation;

/// Sessions and devices that are no longer to be believed (control §5.8). At least one id is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"session_ids": ["sess_643e"], "device_ids": [], "reason": "user_requested"}))]
pub struct RevokeSessions {
    #[serde(default)]
    pub session_ids: Vec<String>,
    #[serde(default)]
    pub device_ids: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

impl operation::Body for RevokeSessions {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedSessions {
    pub revoked_sessions: u64,
    pub revoked_devices: u64,
}

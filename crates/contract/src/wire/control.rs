//! The control service's own answers (control §8.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `{"data": …}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusReply {
    pub data: serde_json::Value,
}

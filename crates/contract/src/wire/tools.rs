//! `POST /api/runtime/tools/execute`: one call of a tool pack, and what it came to (control §11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operation::{Body, Data};

/// One call. Members are checked one by one, in the order of the specification, so that a refusal names the first
/// that is wrong.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"tool_pack": "coding.v1", "mode": "execute", "run_id": "run_7", "thread_id": "thread_7",
    "manifest_ref": {"integration_id": "github.primary"},
    "request": {"integration_id": "github.primary", "operation": "get_issue", "repository": "acme/widgets", "issue_number": 42},
    "policy": {"budget": {"max_per_call_sats": 100}}}))]
pub struct ExecuteTool {
    /// `coding.v1`, `lightning.v1`, or `l402.v1`, which is `lightning.v1`.
    #[serde(default, alias = "toolPack", skip_serializing_if = "Option::is_none")]
    pub tool_pack: Option<Value>,
    /// `execute` or `replay`; both give a known answer again and execute what is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Value>,
    /// At most 160 characters.
    #[serde(default, alias = "runId", skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Value>,
    /// At most 160 characters.
    #[serde(default, alias = "threadId", skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<Value>,
    /// If given, the caller's own principal number.
    #[serde(default, alias = "userId", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Value>,
    /// An object or an array; this or `manifest_ref` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "super::ObjectOrArray")]
    pub manifest: Option<Value>,
    #[serde(default, alias = "manifestRef", skip_serializing_if = "Option::is_none")]
    pub manifest_ref: Option<Value>,
    /// An object; what it holds depends on the pack. With `autopilot_id`, or a thread that is bound to an autopilot,
    /// the call is held to the policy of that autopilot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub request: Option<Value>,
    /// The caller's own limits; they only tighten what the autopilot, the organisation and the service allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "super::ObjectOrArray")]
    pub policy: Option<Value>,
}

impl Body for ExecuteTool {}

/// How a call is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallReceipt {
    /// `coding_` or `l402_` and the beginning of the hash.
    pub receipt_id: String,
    /// `sha256:` and the hash of everything that was asked.
    pub replay_hash: String,
    /// When exactly this was first asked.
    pub first_seen: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallError {
    pub code: String,
    pub message: String,
}

/// What a call came to. Allowed, denied and failed calls are all answered with 200.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolOutcome {
    /// `succeeded`, `blocked` or `failed`.
    pub state: String,
    /// `allowed`, `denied`, `approval_requested` or `failed`.
    pub decision: String,
    pub reason_code: String,
    pub tool_pack: String,
    pub mode: String,
    /// Whether this answer was given before.
    #[serde(rename = "idempotentReplay")]
    pub idempotent_replay: bool,
    pub receipt: CallReceipt,
    /// The limits that held.
    pub policy: Value,
    pub request: Value,
    pub result: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
}

pub type ToolReply = Data<ToolOutcome>;

//! Delivery events of message providers (runtime-core §15).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::operation;

/// `POST /internal/v1/comms/delivery-events`. The key is (`provider`, `event_id`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"event_id": "evt_9f2", "provider": "resend", "delivery_state": "delivered", "message_id": "email_77", "recipient": "a@example.com", "occurred_at": "2026-02-25T10:00:00Z", "payload": {"rawType": "email.delivered"}}))]
#[schemars(extend("required" = ["event_id", "provider", "delivery_state", "payload"]))]
pub struct RecordDelivery {
    pub event_id: String,
    pub provider: String,
    /// Any value; the published set is `delivered bounced complained unsubscribed`.
    pub delivery_state: String,
    #[serde(default)]
    pub message_id: Option<String>,
    #[serde(default)]
    pub integration_id: Option<String>,
    #[serde(default)]
    pub recipient: Option<String>,
    #[serde(default)]
    pub occurred_at: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// The provider's own document; required, whatever it holds.
    #[serde(default)]
    #[schemars(with = "Document")]
    pub payload: Option<Box<RawValue>>,
}

/// Any JSON but `null`.
#[derive(JsonSchema)]
#[schemars(inline, extend("type" = ["object", "array", "string", "number", "boolean"]))]
struct Document(#[allow(dead_code, reason = "only its schema is used")] serde_json::Value);

impl operation::Body for RecordDelivery {}

/// 202 the first time, 200 ever after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryReceipt {
    pub event_id: String,
    pub status: DeliveryStatus,
    #[serde(rename = "idempotentReplay")]
    pub idempotent_replay: bool,
    /// The same id under the name that published prose uses.
    #[serde(rename = "eventId")]
    pub event_id_camel: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    Accepted,
}

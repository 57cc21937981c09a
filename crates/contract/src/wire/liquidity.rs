//! Paying invoices over Lightning (liquidity §4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{amount::Msats, instant::Timestamp, operation, receipt::ReceiptSignature};

pub const QUOTE_PAY_REQUEST: &str = "openagents.liquidity.quote_pay_request.v1";
pub const QUOTE_PAY_RESPONSE: &str = "openagents.liquidity.quote_pay_response.v1";
pub const PAY_REQUEST: &str = "openagents.liquidity.pay_request.v1";
pub const PAY_RESPONSE: &str = "openagents.liquidity.pay_response.v1";
pub const STATUS_RESPONSE: &str = "openagents.liquidity.status_response.v1";

/// `POST /internal/v1/liquidity/quote_pay` (§4.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": "run-77:pay-3", "invoice": "lnbc420n1test", "host": "Sats4AI.com", "max_amount_msats": 100_000, "max_fee_msats": 10_000, "urgency": "normal", "policy_context": {"purpose": "test"}}))]
pub struct QuotePay {
    pub schema: String,
    pub idempotency_key: String,
    /// BOLT11, with an amount.
    pub invoice: String,
    /// Whom it is for; a label.
    pub host: String,
    /// At least what the invoice asks for.
    pub max_amount_msats: Msats,
    /// What routing may cost.
    pub max_fee_msats: Msats,
    #[serde(default)]
    pub urgency: Option<String>,
    /// Anything; its digest is part of the receipt.
    #[serde(default)]
    pub policy_context: serde_json::Value,
    /// Who pays. The credential's own owner when it is bound to one; the operator when neither names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
}

impl operation::Body for QuotePay {}

/// What an invoice may cost. The same key and content is answered with the same quote, also when it has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PayQuote {
    pub schema: String,
    pub quote_id: String,
    pub idempotency_key: String,
    pub invoice_hash: String,
    pub host: String,
    pub quoted_amount_msats: u64,
    pub max_amount_msats: u64,
    pub max_fee_msats: u64,
    pub policy_context_sha256: String,
    pub valid_until: Timestamp,
    pub created_at: Timestamp,
}

/// `POST /internal/v1/liquidity/pay` (§4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": "liq_quote_01976f3a-52c1-7b0e-9d7e-4a1f0c3b2d10", "run_id": "0193a000-0000-7000-8000-000000000001"}))]
pub struct Pay {
    pub schema: String,
    pub quote_id: String,
    #[serde(default)]
    pub run_id: Option<String>,
    #[serde(default)]
    pub trajectory_hash: Option<String>,
}

impl operation::Body for Pay {}

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaidStatus {
    Succeeded,
    Failed,
}

/// A payment that has ended; the same for ever.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    pub schema: String,
    pub quote_id: String,
    pub status: PaidStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    /// Over the hex text of the preimage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preimage_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    pub receipt: InvoicePayReceipt,
    /// Everything that the wallet said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub payment_proof: Option<Box<RawValue>>,
}

/// `openagents.liquidity.invoice_pay_receipt.v1` (§4.2). `fee_msats` and `payment_hash` are not part of the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoicePayReceipt {
    pub schema: String,
    pub receipt_id: String,
    pub quote_id: String,
    pub invoice_hash: String,
    pub host: String,
    pub quoted_amount_msats: u64,
    pub max_amount_msats: u64,
    pub max_fee_msats: u64,
    pub max_amount_forwarded_msats: u64,
    pub status: PaidStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preimage_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    pub policy_context_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectory_hash: Option<String>,
    pub created_at: Timestamp,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
    /// What routing cost, where the wallet says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_msats: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
}

/// `GET /internal/v1/liquidity/status` (§4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiquidityStatus {
    pub schema: String,
    pub wallet_executor_configured: bool,
    pub wallet_executor_reachable: bool,
    pub receipt_signing_enabled: bool,
    pub quote_ttl_seconds: u64,
    /// What the wallet said of itself, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_status: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

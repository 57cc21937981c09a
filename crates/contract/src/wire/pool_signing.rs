//! What an operator does with pools: due withdrawals, signer sets, and acts that need signatures (liquidity §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{instant::Timestamp, operation, receipt::ReceiptSignature};

/// Pays what is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"limit": 50}))]
pub struct ExecuteDue {
    /// 1 to 5000, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl operation::Body for ExecuteDue {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DueExecuted {
    /// `openagents.liquidity.pool.execute_due_response.v1`.
    pub schema: String,
    pub attempted: u64,
    pub paid: u64,
    pub signing_requests_created: u64,
    pub throttled: u64,
    pub failed: u64,
    /// Payouts whose outcome nobody knows yet; they are asked for again.
    pub unknown: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolSigner {
    /// x-only, 64 hex digits.
    #[schemars(regex(pattern = r"\S"))]
    pub pubkey: String,
    #[serde(default)]
    pub label: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignerPolicyAction {
    pub action_class: String,
    /// Up to this amount one signature is enough.
    #[serde(default)]
    pub single_signer_max_sats: Option<u64>,
    /// Instead of the threshold.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub required_signatures: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignerPolicy {
    /// `openagents.liquidity.pool_signer_policy.v1`.
    #[schemars(extend("const" = "openagents.liquidity.pool_signer_policy.v1"))]
    pub schema: String,
    pub actions: Vec<SignerPolicyAction>,
}

/// Who may sign for a pool. Where signers stand already, changing them needs their signatures.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool_signer_set_upsert_request.v1", "threshold": 1, "signers": [{"pubkey": "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c", "label": "ops-1"}]}))]
pub struct PutSignerSet {
    pub schema: String,
    #[schemars(range(min = 1))]
    pub threshold: u32,
    pub signers: Vec<PoolSigner>,
    #[serde(default)]
    pub policy: Option<SignerPolicy>,
}

impl operation::Body for PutSignerSet {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignerSet {
    pub pool_id: String,
    /// `openagents.liquidity.pool_signer_set.v1`.
    pub schema: String,
    pub threshold: u32,
    pub signers: Vec<PoolSigner>,
    pub policy: SignerPolicy,
    pub canonical_json_sha256: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignerSetReply {
    /// `openagents.liquidity.pool_signer_set_response.v1`.
    pub schema: String,
    /// The set that is in force.
    pub signer_set: SignerSet,
    /// The request that the signers in force have to approve before the new set is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_request: Option<SigningRequest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool_treasury.open_channel_request.v1", "idempotency_key": "open-1", "peer_id": "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619", "amount_sats": 100_000}))]
pub struct OpenChannel {
    pub schema: String,
    pub idempotency_key: String,
    pub peer_id: String,
    #[schemars(range(min = 1))]
    pub amount_sats: u64,
}

impl operation::Body for OpenChannel {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool_treasury.close_channel_request.v1", "idempotency_key": "close-1", "channel_id": "884939x1x0"}))]
pub struct CloseChannel {
    pub schema: String,
    pub idempotency_key: String,
    pub channel_id: String,
}

impl operation::Body for CloseChannel {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SigningStatus {
    Pending,
    /// Somebody has begun to do it.
    Executing,
    Executed,
}

impl SigningStatus {
    pub const ALL: [SigningStatus; 3] =
        [SigningStatus::Pending, SigningStatus::Executing, SigningStatus::Executed];

    pub const fn name(self) -> &'static str {
        match self {
            SigningStatus::Pending => "pending",
            SigningStatus::Executing => "executing",
            SigningStatus::Executed => "executed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// An act that waits for signatures over `payload_sha256`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SigningRequest {
    pub request_id: String,
    pub pool_id: String,
    pub action_class: String,
    pub idempotency_key: String,
    #[schemars(with = "Value")]
    pub payload_json: Box<RawValue>,
    pub payload_sha256: String,
    pub required_signatures: u32,
    pub status: SigningStatus,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub execution_result_json: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed_at: Option<Timestamp>,
    /// Signatures of signers in force that are still missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_signatures: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SigningApproval {
    pub approval_id: String,
    pub request_id: String,
    pub signer_pubkey: String,
    pub signature: ReceiptSignature,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSigningRequests {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SigningStatus>,
    /// 1 to 500, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl operation::Query for ListSigningRequests {}

/// The latest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SigningRequestList {
    /// `openagents.liquidity.pool_signing_request_list.v1`.
    pub schema: String,
    pub requests: Vec<SigningRequest>,
}

/// A signer's word over the payload's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool_signing_approval_submit_request.v1", "signature": {"schema": "openagents.receipt_signature.v1", "scheme": "secp256k1_schnorr_no_aux_rand", "signer_pubkey": "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c", "signed_sha256": "2b8c9c665e0061fb4bbc4cb3a8c5bb75897c2b95e6372d245074965decd2bb04", "signature_hex": "00"}}))]
pub struct ApproveSigning {
    pub schema: String,
    pub signature: ReceiptSignature,
}

impl operation::Body for ApproveSigning {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SigningRequestReply {
    /// `openagents.liquidity.pool_signing_request_response.v1`.
    pub schema: String,
    pub request: SigningRequest,
    pub approvals: Vec<SigningApproval>,
}

/// What a signature was made with, in the digest of a treasury receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalProof {
    pub signer_pubkey: String,
    pub scheme: String,
    pub signed_sha256: String,
    pub signature_hex: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TreasuryActionReceipt {
    /// `openagents.liquidity.pool_treasury_action_receipt.v1`.
    pub schema: String,
    pub receipt_id: String,
    pub pool_id: String,
    pub signing_request_id: String,
    pub action_class: String,
    pub payload_sha256: String,
    /// Sorted by public key.
    pub approvals: Vec<ApprovalProof>,
    #[schemars(with = "Value")]
    pub execution_result_json: Box<RawValue>,
    pub executed_at: Timestamp,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SigningExecuted {
    /// `openagents.liquidity.pool_signing_request_execute_response.v1`.
    pub schema: String,
    pub request: SigningRequest,
    pub receipt: TreasuryActionReceipt,
}

//! What an operator says of a payment or a payout that no wallet can tell of (liquidity §17.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{liquidity::PaidStatus, pools::WithdrawalStatus};
use crate::{amount::Msats, instant::Timestamp, operation};

pub const PAYMENT_RESOLUTION: &str = "openagents.liquidity.payment_resolution.v1";
pub const WITHDRAWAL_RESOLUTION: &str = "openagents.liquidity.pool.withdrawal_resolution.v1";

/// Ends what nobody knows the end of. Strictly, money that has left is proved: by the preimage of the invoice's hash, or
/// on-chain by the transaction's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"idempotency_key": "resolve-1", "outcome": "failed", "reason": "the node was lost before it had the payment; its backup of 11:40 does not know the hash"}))]
pub struct Resolve {
    /// Said twice under one key, it is answered the same and done once.
    pub idempotency_key: String,
    pub outcome: PaidStatus,
    /// Why the operator is sure. Kept for ever.
    pub reason: String,
    /// 64 hex digits.
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preimage: Option<String>,
    /// Of a sending on-chain: 64 hex digits.
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    /// What the way has cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_msats: Option<Msats>,
    /// The digest of a receipt of the wallet's.
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    /// Ends it although the wallet says that it is still at it.
    #[serde(default)]
    pub despite_wallet: bool,
}

impl operation::Body for Resolve {}

/// What was said, by whom and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    pub outcome: PaidStatus,
    pub reason: String,
    /// SHA-256 of the preimage's bytes: the payment hash that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_msats: Option<Msats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    pub despite_wallet: bool,
    /// The credential that said it.
    pub actor: String,
    pub resolved_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentResolved {
    pub schema: String,
    pub payment_id: String,
    pub status: PaidStatus,
    pub resolution: Resolution,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawalResolved {
    pub schema: String,
    pub withdrawal_id: String,
    /// `paid`; or `queued` when it is to be tried again, and `failed` when it was tried often enough.
    pub status: WithdrawalStatus,
    pub resolution: Resolution,
}

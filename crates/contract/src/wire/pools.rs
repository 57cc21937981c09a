//! Liquidity pools: deposits, withdrawals, status and signed snapshots (liquidity §5, §6, §7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{instant::Timestamp, operation, receipt::ReceiptSignature, sum_tree};

macro_rules! words {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$inner:meta])* $variant:ident $word:literal ),+ $(,)? } )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $( $(#[$inner])* #[serde(rename = $word)] $variant, )+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    )+ };
}

words! {
    /// What a part of a pool is for: Lightning liquidity, credit envelopes, the rebalancing reserve.
    #[derive(Default)]
    PartitionKind { #[default] Llp "llp", Cep "cep", Rrp "rrp" }
    #[derive(Default)]
    PoolKind { #[default] Llp "llp" }
    #[derive(Default)]
    PoolStatus { #[default] Active "active", Paused "paused", Disabled "disabled" }
    DepositRail { LightningInvoice "lightning_invoice", OnchainAddress "onchain_address" }
    DepositStatus { Quoted "quoted", Pending "pending", Confirmed "confirmed", Expired "expired", Failed "failed" }
    PayoutRail { Lightning "lightning", Onchain "onchain" }
    /// `approved`: the payout is under way.
    WithdrawalStatus {
        Requested "requested", Queued "queued", Approved "approved", Paid "paid", Failed "failed", Canceled "canceled"
    }
    ThrottleMode { Normal "normal", Stressed "stressed", Halted "halted" }
}

/// Opens a pool, or gives the one that stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool.create_request.v1", "operator_id": "operator:vignette", "pool_kind": "llp", "status": "active", "config": {"schema": "openagents.liquidity.pool_config.v1", "note": "first pool"}}))]
pub struct CreatePool {
    pub schema: String,
    pub operator_id: String,
    #[serde(default)]
    pub pool_kind: Option<PoolKind>,
    #[serde(default)]
    pub status: Option<PoolStatus>,
    /// Kept verbatim.
    #[serde(default = "super::null")]
    #[schemars(with = "Value")]
    pub config: Box<RawValue>,
}

impl operation::Body for CreatePool {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    pub pool_id: String,
    pub pool_kind: PoolKind,
    pub operator_id: String,
    pub status: PoolStatus,
    #[schemars(with = "Value")]
    pub config: Box<RawValue>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PoolReply {
    /// `openagents.liquidity.pool.create_response.v1`.
    pub schema: String,
    pub pool: Pool,
}

/// Where to pay, and what it will mint.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool.deposit_quote_request.v1", "lp_id": "lp:vignette", "idempotency_key": "idem:deposit-1", "rail": "lightning_invoice", "amount_sats": 2500, "description": "vignette deposit", "expiry_secs": 900}))]
pub struct QuoteDeposit {
    pub schema: String,
    pub lp_id: String,
    pub idempotency_key: String,
    #[schemars(range(min = 1))]
    pub amount_sats: u64,
    #[serde(default)]
    pub partition_kind: Option<PartitionKind>,
    pub rail: DepositRail,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub expiry_secs: Option<u64>,
}

impl operation::Body for QuoteDeposit {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deposit {
    pub deposit_id: String,
    pub pool_id: String,
    pub partition_kind: PartitionKind,
    pub lp_id: String,
    pub rail: DepositRail,
    pub amount_sats: u64,
    pub share_price_sats: u64,
    /// As quoted; once confirmed, as credited.
    pub shares_minted: u64,
    pub status: DepositStatus,
    pub idempotency_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_bolt11: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit_address: Option<String>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Timestamp>,
    /// What the wallet has seen arrive, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_msats: Option<u64>,
}

/// Of the quote, not of money received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DepositReceipt {
    pub schema: String,
    pub receipt_id: String,
    pub pool_id: String,
    pub lp_id: String,
    pub deposit_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_kind: Option<PartitionKind>,
    pub rail: DepositRail,
    pub amount_sats: u64,
    pub share_price_sats: u64,
    pub shares_minted: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit_address: Option<String>,
    pub created_at: Timestamp,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DepositQuote {
    /// `openagents.liquidity.pool.deposit_quote_response.v1`.
    pub schema: String,
    pub deposit: Deposit,
    pub receipt: DepositReceipt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DepositConfirmed {
    /// `openagents.liquidity.pool.confirm_deposit_response.v1`.
    pub schema: String,
    pub deposit: Deposit,
    /// Whether it was this call that minted.
    pub shares_minted: bool,
}

/// Queues a payout for shares.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.liquidity.pool.withdraw_request.v1", "lp_id": "lp:vignette", "idempotency_key": "idem:withdraw-ln-1", "shares_burned": 1000, "rail_preference": "lightning", "payout_invoice_bolt11": "lnbc10000n1vignette"}))]
pub struct RequestWithdrawal {
    pub schema: String,
    pub lp_id: String,
    pub idempotency_key: String,
    #[schemars(range(min = 1))]
    pub shares_burned: u64,
    #[serde(default)]
    pub partition_kind: Option<PartitionKind>,
    pub rail_preference: PayoutRail,
    /// Needed for `lightning`.
    #[serde(default)]
    pub payout_invoice_bolt11: Option<String>,
    /// Needed for `onchain`.
    #[serde(default)]
    pub payout_address: Option<String>,
}

impl operation::Body for RequestWithdrawal {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Withdrawal {
    pub withdrawal_id: String,
    pub pool_id: String,
    pub partition_kind: PartitionKind,
    pub lp_id: String,
    pub shares_burned: u64,
    pub amount_sats_estimate: u64,
    pub rail_preference: PayoutRail,
    pub status: WithdrawalStatus,
    pub idempotency_key: String,
    pub earliest_settlement_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_invoice_bolt11: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_invoice_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<Timestamp>,
    /// Why the last try to pay it failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Of `shares_burned`, those that are the provider's again: what the way did not cost, or what was not paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_returned: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawRequestReceipt {
    pub schema: String,
    pub receipt_id: String,
    pub pool_id: String,
    pub lp_id: String,
    pub withdrawal_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_kind: Option<PartitionKind>,
    pub shares_burned: u64,
    pub amount_sats_estimate: u64,
    pub rail_preference: PayoutRail,
    pub earliest_settlement_at: Timestamp,
    pub created_at: Timestamp,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawalCanceled {
    /// `openagents.liquidity.pool.withdrawal_canceled.v1`.
    pub schema: String,
    pub withdrawal: Withdrawal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawReply {
    /// `openagents.liquidity.pool.withdraw_response.v1`.
    pub schema: String,
    pub withdrawal: Withdrawal,
    pub receipt: WithdrawRequestReceipt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle: Option<WithdrawThrottle>,
}

/// How hard it is made to leave at the moment (§7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WithdrawThrottle {
    /// `openagents.liquidity.pool_withdraw_throttle_status.v1`.
    pub schema: String,
    pub pool_id: String,
    pub lp_mode_enabled: bool,
    pub mode: ThrottleMode,
    pub reasons: Vec<String>,
    pub liabilities_pressure_bps: u32,
    pub pending_withdrawals_sats_estimate: u64,
    pub cep_reserved_commitments_sats: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_connected_ratio_bps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_outbound_coverage_bps: Option<u32>,
    pub extra_delay_hours: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_cap_per_tick: Option<u32>,
    pub generated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionStatus {
    pub partition_kind: PartitionKind,
    pub assets_sats_estimate: u64,
    pub liabilities_sats_estimate: u64,
    pub share_price_sats: u64,
    pub total_shares: u64,
    pub pending_withdrawals_sats_estimate: u64,
    /// What a million shares are worth now, in msats, rounded down; absent without shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_price_msats_e6: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PoolStatusReply {
    /// `openagents.liquidity.pool.status.v1`.
    pub schema: String,
    pub pool: Pool,
    pub share_price_sats: u64,
    pub total_shares: u64,
    pub pending_withdrawals_sats_estimate: u64,
    /// Always three: `llp`, `cep`, `rrp`.
    pub partitions: Vec<PartitionStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle: Option<WithdrawThrottle>,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatestSnapshot {
    /// Makes one now; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_kind: Option<PartitionKind>,
}

impl operation::Query for LatestSnapshot {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    pub snapshot_id: String,
    pub pool_id: String,
    pub partition_kind: PartitionKind,
    pub as_of: Timestamp,
    #[schemars(with = "Value")]
    pub assets_json: Box<RawValue>,
    #[schemars(with = "Value")]
    pub liabilities_json: Box<RawValue>,
    pub share_price_sats: u64,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_json: Option<ReceiptSignature>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReceipt {
    /// `openagents.liquidity.pool_snapshot_receipt.v1`.
    pub schema: String,
    pub receipt_id: String,
    pub pool_id: String,
    pub snapshot_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_kind: Option<PartitionKind>,
    pub as_of: Timestamp,
    pub assets_json_sha256: String,
    pub liabilities_json_sha256: String,
    pub share_price_sats: u64,
    pub created_at: Timestamp,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

/// The shares of all providers at a snapshot, as the root of a sum tree, signed like the snapshot. Its total is the
/// snapshot's `sharesOutstanding`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharesTree {
    /// `openagents.liquidity.pool_shares_tree.v1`.
    pub schema: String,
    pub pool_id: String,
    pub partition_kind: PartitionKind,
    pub snapshot_id: String,
    pub snapshot_sha256: String,
    pub root: String,
    pub total_shares: u64,
    pub providers: u64,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

impl SharesTree {
    /// What its digest covers.
    pub fn preimage(&self) -> Value {
        serde_json::json!({
            "schema": self.schema, "pool_id": self.pool_id, "partition_kind": self.partition_kind,
            "snapshot_id": self.snapshot_id, "snapshot_sha256": self.snapshot_sha256, "root": self.root,
            "total_shares": self.total_shares, "providers": self.providers,
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReply {
    /// `openagents.liquidity.pool.snapshot.v1`.
    pub schema: String,
    pub snapshot: Snapshot,
    pub receipt: SnapshotReceipt,
    pub shares_tree: SharesTree,
}

/// Whose balance is to be proved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProveShares {
    pub lp_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_kind: Option<PartitionKind>,
    /// The latest by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
}

impl operation::Query for ProveShares {}

/// Everything that is needed to check offline that a balance is inside a signed total.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SharesProof {
    /// `openagents.liquidity.pool_shares_proof.v1`.
    pub schema: String,
    pub lp_id: String,
    pub shares: u64,
    pub nonce: String,
    pub path: Vec<sum_tree::Step>,
    pub shares_tree: SharesTree,
    pub snapshot: Snapshot,
    pub receipt: SnapshotReceipt,
}

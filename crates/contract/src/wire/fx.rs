//! Exchange between two assets: a request for quotes, the quotes, the choice of one, and its settlement
//! (credit-fx §9). Amounts are whole numbers of the unit that they name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operation;

/// So much of an asset, in a unit of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxMoneyV1")]
pub struct FxMoney {
    pub asset: String,
    pub amount: u64,
    pub unit: String,
}

/// `POST /internal/v1/hydra/fx/rfq` (§9.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxRfqRequestV1", example = serde_json::json!({"schema": "openagents.hydra.fx_rfq_request.v1", "idempotency_key": "rfq-1", "requester_id": "autopilot:user-1", "budget_scope_id": "budget:scope-1", "sell": {"asset": "usd", "amount": 100_000, "unit": "cents"}, "buy_asset": "btc_ln", "min_buy_amount": 2_000_000, "max_spread_bps": 100, "max_fee_bps": 60, "max_latency_ms": 5000, "quote_ttl_seconds": 30, "policy_context": {"policy": "balanced_v1"}}))]
#[schemars(extend("required" = ["schema", "idempotency_key", "requester_id", "budget_scope_id", "sell", "buy_asset", "min_buy_amount", "max_spread_bps", "max_fee_bps", "max_latency_ms", "quote_ttl_seconds", "policy_context"]))]
pub struct OpenRfq {
    pub schema: String,
    pub idempotency_key: String,
    /// An owner (`user:<id>`, `guest:<scope>`) exchanges its own money; any other name holds an exchange account.
    pub requester_id: String,
    /// The name of a budget of the requester (`run/…`, `repo/…`); it counts where it was set.
    pub budget_scope_id: String,
    pub sell: FxMoney,
    pub buy_asset: String,
    pub min_buy_amount: u64,
    pub max_spread_bps: u32,
    pub max_fee_bps: u32,
    pub max_latency_ms: u32,
    pub quote_ttl_seconds: u32,
    /// Must be an object.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub policy_context: Option<Value>,
}

impl operation::Body for OpenRfq {}

/// Where a request for quotes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HydraFxRfqStatusV1")]
pub enum RfqStatus {
    /// Nobody has quoted yet.
    Open,
    /// There are quotes, and none is chosen.
    Quoted,
    /// One quote is chosen; only that one can be settled.
    Selected,
    /// Both sides were exchanged.
    Settled,
    /// Nothing was exchanged; another quote may be chosen while there is time.
    Withheld,
    /// Its time is over.
    Expired,
}

impl RfqStatus {
    pub const ALL: [RfqStatus; 6] = [
        RfqStatus::Open,
        RfqStatus::Quoted,
        RfqStatus::Selected,
        RfqStatus::Settled,
        RfqStatus::Withheld,
        RfqStatus::Expired,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            RfqStatus::Open => "open",
            RfqStatus::Quoted => "quoted",
            RfqStatus::Selected => "selected",
            RfqStatus::Settled => "settled",
            RfqStatus::Withheld => "withheld",
            RfqStatus::Expired => "expired",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A request for quotes as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxRfqV1")]
pub struct Rfq {
    pub rfq_id: String,
    pub requester_id: String,
    pub budget_scope_id: String,
    pub sell: FxMoney,
    pub buy_asset: String,
    pub min_buy_amount: u64,
    pub max_spread_bps: u32,
    pub max_fee_bps: u32,
    pub max_latency_ms: u32,
    pub quote_ttl_seconds: u32,
    pub status: RfqStatus,
    pub created_at_unix: u64,
    pub expires_at_unix: u64,
    pub policy_context: Value,
    /// How many quotes there are.
    #[serde(default)]
    pub quotes_total: u64,
    /// The quote that is chosen, or was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_quote_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxRfqResponseV1")]
pub struct RfqReply {
    /// `openagents.hydra.fx_rfq_response.v1`.
    pub schema: String,
    pub rfq: Rfq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HydraFxQuoteStatusV1")]
pub enum FxQuoteStatus {
    Active,
    Expired,
    Withdrawn,
    Selected,
}

impl FxQuoteStatus {
    pub const ALL: [FxQuoteStatus; 4] =
        [FxQuoteStatus::Active, FxQuoteStatus::Expired, FxQuoteStatus::Withdrawn, FxQuoteStatus::Selected];

    pub const fn name(self) -> &'static str {
        match self {
            FxQuoteStatus::Active => "active",
            FxQuoteStatus::Expired => "expired",
            FxQuoteStatus::Withdrawn => "withdrawn",
            FxQuoteStatus::Selected => "selected",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What a provider offers for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxQuoteOfferV1")]
pub struct OfferedFxQuote {
    pub quote_id: String,
    pub rfq_id: String,
    pub provider_id: String,
    pub sell: FxMoney,
    pub buy: FxMoney,
    pub spread_bps: u32,
    pub fee_bps: u32,
    pub latency_ms: u32,
    pub reliability_bps: u32,
    pub valid_until_unix: u64,
    /// Must be `active`.
    pub status: FxQuoteStatus,
    /// An object; absent and null are `{}`.
    #[serde(default)]
    pub constraints: Option<Value>,
    /// Empty, or the digest of the quote as it will be kept.
    pub quote_sha256: String,
    /// BIP-340 over the digest, 128 hex digits, by the key that `provider_id` is. Needed where that is a key and
    /// callers are not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_signature: Option<String>,
}

/// `POST /internal/v1/hydra/fx/quote` (§9.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxQuoteUpsertRequestV1", example = serde_json::json!({"schema": "openagents.hydra.fx_quote_upsert_request.v1", "idempotency_key": "q-1", "quote": {"quote_id": "quote-a", "rfq_id": "fxrfq_0195e0c0000070008000000000000001", "provider_id": "provider-a", "sell": {"asset": "USD", "amount": 100_000, "unit": "cents"}, "buy": {"asset": "BTC_LN", "amount": 2_500_000, "unit": "msats"}, "spread_bps": 70, "fee_bps": 20, "latency_ms": 1000, "reliability_bps": 9000, "valid_until_unix": 1_772_366_430, "status": "active", "constraints": {}, "quote_sha256": ""}}))]
pub struct UpsertFxQuote {
    pub schema: String,
    pub idempotency_key: String,
    pub quote: OfferedFxQuote,
}

impl operation::Body for UpsertFxQuote {}

/// A quote as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxQuoteV1")]
pub struct FxQuote {
    pub quote_id: String,
    pub rfq_id: String,
    pub provider_id: String,
    pub sell: FxMoney,
    pub buy: FxMoney,
    pub spread_bps: u32,
    pub fee_bps: u32,
    pub latency_ms: u32,
    pub reliability_bps: u32,
    pub valid_until_unix: u64,
    pub status: FxQuoteStatus,
    pub constraints: Value,
    pub quote_sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxQuoteUpsertResponseV1")]
pub struct FxQuoteReply {
    /// `openagents.hydra.fx_quote_upsert_response.v1`.
    pub schema: String,
    pub quote: FxQuote,
    /// What the quote comes to, beside the reference rate of the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FxRate>,
}

/// What an exchange comes to, and what it would come to at the reference rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxRateV1")]
pub struct FxRate {
    pub sell: FxMoney,
    pub buy: FxMoney,
    /// Absent where nobody has told a rate that is young enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<FxReference>,
    /// How much less than the reference is bought, in hundredths of a percent; below zero it is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_from_reference_bps: Option<i64>,
}

/// The reference rate, and who told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxReferenceV1")]
pub struct FxReference {
    /// The source, or `median of …`.
    pub source: String,
    /// So many units of the sold asset are worth …
    pub sell_units: u64,
    /// … so many of the bought.
    pub buy_units: u64,
    pub observed_at_unix: u64,
    /// What the sold amount would buy, rounded down.
    pub buy_amount: u64,
}

/// `POST /internal/v1/hydra/fx/select` (§9.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSelectRequestV1", example = serde_json::json!({"schema": "openagents.hydra.fx_select_request.v1", "idempotency_key": "sel-1", "rfq_id": "fxrfq_0195e0c0000070008000000000000001", "policy": "reputation_first_v0"}))]
pub struct SelectFxQuote {
    pub schema: String,
    pub idempotency_key: String,
    pub rfq_id: String,
    /// `reputation_first_v0` (when blank) or `best_price_v1`.
    pub policy: String,
}

impl operation::Body for SelectFxQuote {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSelectionFactorsV1")]
pub struct FxFactors {
    pub expected_spread_bps: u32,
    pub expected_fee_bps: u32,
    pub confidence: f64,
    pub policy_notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSelectionReceiptV1")]
pub struct FxSelectionReceipt {
    /// `openagents.hydra.fx_selection_receipt.v1`.
    pub receipt_schema: String,
    pub receipt_id: String,
    pub canonical_json_sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSelectResponseV1")]
pub struct FxSelection {
    /// `openagents.hydra.fx_select_response.v1`.
    pub schema: String,
    pub rfq_id: String,
    pub policy: String,
    pub decision_sha256: String,
    /// As it was before it was chosen, with `constraints.selection`.
    pub selected: FxQuote,
    /// Best first.
    pub candidates: Vec<FxQuote>,
    pub factors: FxFactors,
    pub receipt: FxSelectionReceipt,
    pub decided_at_unix: u64,
    /// How good the choice is, measured by what it buys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<FxExecution>,
    /// What is held until the quote's time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<FxReservation>,
}

/// The best-execution report: what the chosen quote buys, beside the best that was offered and the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxExecutionReportV1")]
pub struct FxExecution {
    /// `openagents.hydra.fx_execution_report.v1`.
    pub schema: String,
    pub rate: FxRate,
    pub candidate_count: u64,
    pub best_quote_id: String,
    pub best_buy_amount: u64,
    /// What the best price would have bought more than the choice.
    pub shortfall_amount: u64,
    pub shortfall_bps: u64,
    /// 1 where nobody offers more.
    pub price_rank: u64,
}

/// Both sides of the chosen exchange, held together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxReservationV1")]
pub struct FxReservation {
    /// What a settlement has to name.
    pub reservation_id: String,
    /// `held`, or `uncovered` where one side cannot pay at the moment; a settlement asks again.
    pub status: FxReservationStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HydraFxReservationStatusV1")]
pub enum FxReservationStatus {
    Held,
    Uncovered,
}

/// `POST /internal/v1/hydra/fx/settle` (§9.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSettleRequestV1", example = serde_json::json!({"schema": "openagents.hydra.fx_settle_request.v1", "idempotency_key": "stl-1", "rfq_id": "fxrfq_0195e0c0000070008000000000000001", "quote_id": "quote-a", "reservation_id": "rsv_fxjob_1969c37a25", "policy_context": {"release_allowed": true}}))]
pub struct SettleFx {
    pub schema: String,
    pub idempotency_key: String,
    pub rfq_id: String,
    pub quote_id: String,
    pub reservation_id: String,
    /// Absent and null are `{}`. `release_allowed: false` withholds.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub policy_context: Option<Value>,
}

impl operation::Body for SettleFx {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HydraFxSettlementStatusV1")]
pub enum FxSettlementStatus {
    Released,
    Withheld,
    Failed,
}

impl FxSettlementStatus {
    pub const fn name(self) -> &'static str {
        match self {
            FxSettlementStatus::Released => "released",
            FxSettlementStatus::Withheld => "withheld",
            FxSettlementStatus::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSettlementReceiptV1")]
pub struct FxReceipt {
    /// `openagents.hydra.fx_settlement_receipt.v1`.
    pub schema: String,
    pub receipt_id: String,
    pub settlement_id: String,
    pub rfq_id: String,
    pub quote_id: String,
    pub provider_id: String,
    pub sell: FxMoney,
    pub buy: FxMoney,
    pub spread_bps: u32,
    pub fee_bps: u32,
    pub settled_at_unix: u64,
    /// Null: both sides move in the ledger.
    pub wallet_receipt: Option<Value>,
    pub canonical_json_sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSettleResponseV1")]
pub struct FxSettlement {
    /// `openagents.hydra.fx_settle_response.v1`.
    pub schema: String,
    pub settlement_id: String,
    pub status: FxSettlementStatus,
    pub receipt: FxReceipt,
    /// `verification_failed` where the quote's time was over, `price_integrity_failed` where it was not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FxRate>,
    /// Whatever the digest of the receipt is taken over, and its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<FxProof>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraFxSettlementProofV1")]
pub struct FxProof {
    /// The transfer that holds both sides; none where nothing was ever held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_id: Option<String>,
    pub preimage: Value,
    /// BIP-340 over the digest, where the service has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_pubkey: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_hex: Option<String>,
}

/// `POST /admin/v1/fx/accounts`: how far below zero somebody may go in one asset, which is what they may pay with
/// before anything came in. Below what is used already it is refused, and the refusal says what the least is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SetFxLimit", example = serde_json::json!({"holder_id": "provider-a", "asset": "BTC_LN", "unit": "msats", "limit_units": 10_000_000_000_u64}))]
pub struct SetFxLimit {
    /// A requester or a provider.
    pub holder_id: String,
    pub asset: String,
    pub unit: String,
    pub limit_units: u64,
}

impl operation::Body for SetFxLimit {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxAccountQuery")]
pub struct FxAccountQuery {
    #[schemars(regex(pattern = r"\S"))]
    pub holder_id: String,
    #[schemars(regex(pattern = r"\S"))]
    pub asset: String,
    #[schemars(regex(pattern = r"\S"))]
    pub unit: String,
}

impl operation::Query for FxAccountQuery {}

/// What somebody holds of one asset. What is left is the limit, and what was received, less what was paid and is
/// held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxAccount")]
pub struct FxAccount {
    /// `openagents.hydra.fx_account.v1`.
    pub schema: String,
    pub holder_id: String,
    pub account_id: String,
    pub asset: String,
    pub unit: String,
    pub limit_units: u64,
    pub paid_units: u64,
    pub received_units: u64,
    pub held_units: u64,
    pub remaining_units: u64,
}

/// `POST /admin/v1/fx/rates`: what a source says two assets are worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TellFxRate", example = serde_json::json!({"source": "desk", "sell": {"asset": "USD", "amount": 100, "unit": "cents"}, "buy": {"asset": "BTC_LN", "amount": 2_600, "unit": "msats"}}))]
pub struct TellFxRate {
    pub source: String,
    /// So much of one asset is worth …
    pub sell: FxMoney,
    /// … so much of another.
    pub buy: FxMoney,
    /// Now, when absent. An older moment than the one that is kept changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at_unix: Option<u64>,
}

impl operation::Body for TellFxRate {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxToldRate")]
pub struct FxToldRate {
    pub source: String,
    pub sell: FxMoney,
    pub buy: FxMoney,
    pub observed_at_unix: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxToldRateReply")]
pub struct FxToldRateReply {
    /// `openagents.hydra.fx_rate.v1`.
    pub schema: String,
    pub rate: FxToldRate,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxRatesQuery")]
pub struct FxRatesQuery {
    #[schemars(regex(pattern = r"\S"))]
    pub sell_asset: String,
    #[schemars(regex(pattern = r"\S"))]
    pub buy_asset: String,
}

impl operation::Query for FxRatesQuery {}

/// What every source of a pair said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FxRateList")]
pub struct FxRateList {
    /// `openagents.hydra.fx_rate_list.v1`.
    pub schema: String,
    pub rates: Vec<FxToldRate>,
}

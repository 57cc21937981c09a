//! Agent outcome credit: what an agent wants to spend, what it is offered, the envelope that pays one provider, and
//! its settlement (credit-fx §4). Amounts are sats where the name says so.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::{instant::Timestamp, operation};

pub const INTENT_REQUEST: &str = "openagents.credit.intent_request.v1";
pub const OFFER_REQUEST: &str = "openagents.credit.offer_request.v1";
pub const ENVELOPE_REQUEST: &str = "openagents.credit.envelope_request.v1";
pub const SETTLE_REQUEST: &str = "openagents.credit.settle_request.v1";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CreditScopeTypeV1")]
pub enum ScopeType {
    Nip90,
}

impl ScopeType {
    pub const fn name(self) -> &'static str {
        "nip90"
    }
}

/// RFC 3339 with any offset; a blank instead of the `T` is read too.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let read = Timestamp::parse(&text).or_else(|| match text.get(10..11) {
        Some(" ") => Timestamp::parse(&format!("{}T{}", &text[..10], &text[11..])),
        _ => None,
    });
    read.ok_or_else(|| D::Error::custom(format!("{text:?} is no RFC 3339 moment with an offset")))
}

/// `POST /internal/v1/credit/intent` (§4.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditIntentRequestV1", example = serde_json::json!({"schema": "openagents.credit.intent_request.v1", "idempotency_key": "intent-0001", "agent_id": "a".repeat(64), "scope_type": "nip90", "scope_id": "oa.sandbox_run.v1:job-7", "max_sats": 5000, "exp": "2026-02-25T10:30:00Z", "policy_context": {"reason": "demo", "attempt": 1}}))]
pub struct DeclareIntent {
    pub schema: String,
    pub idempotency_key: String,
    /// 64 hex digits.
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    pub agent_id: String,
    pub scope_type: ScopeType,
    pub scope_id: String,
    #[schemars(range(min = 1))]
    pub max_sats: u64,
    #[serde(deserialize_with = "moment")]
    pub exp: Timestamp,
    /// An object; absent and null are `{}`.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub policy_context: Option<Value>,
    /// BIP-340, by the agent's key, over the digest of `{schema: "openagents.credit.agent_claim.v1", owner,
    /// intent_sha256}`: the owner that the credential is bound to, and the fingerprint of this request. From then on the
    /// agent is that owner's. Needed once, where callers are not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_signature: Option<String>,
}

impl operation::Body for DeclareIntent {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditIntentV1")]
pub struct Intent {
    pub intent_id: String,
    pub idempotency_key: String,
    pub agent_id: String,
    pub scope_type: ScopeType,
    pub scope_id: String,
    pub max_sats: u64,
    pub exp: Timestamp,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditIntentResponseV1")]
pub struct IntentReply {
    /// `openagents.credit.intent_response.v1`.
    pub schema: String,
    pub intent: Intent,
}

/// `POST /internal/v1/credit/offer` (§4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditOfferRequestV1", example = serde_json::json!({"schema": "openagents.credit.offer_request.v1", "agent_id": "a".repeat(64), "pool_id": "b".repeat(64), "scope_type": "nip90", "scope_id": "oa.sandbox_run.v1:job-7", "max_sats": 4500, "fee_bps": 100, "requires_verifier": true, "exp": "2026-02-25T10:30:00Z"}))]
pub struct AskOffer {
    pub schema: String,
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    pub agent_id: String,
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    pub pool_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent_id: Option<String>,
    pub scope_type: ScopeType,
    pub scope_id: String,
    #[schemars(range(min = 1))]
    pub max_sats: u64,
    /// Kept with the request; the fee is underwritten.
    pub fee_bps: u32,
    /// Kept with the request; a verifier is always required.
    pub requires_verifier: bool,
    #[serde(deserialize_with = "moment")]
    pub exp: Timestamp,
}

impl operation::Body for AskOffer {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CreditOfferStatusV1")]
pub enum OfferStatus {
    Offered,
    Accepted,
    Revoked,
}

impl OfferStatus {
    const ALL: [OfferStatus; 3] = [OfferStatus::Offered, OfferStatus::Accepted, OfferStatus::Revoked];

    pub const fn name(self) -> &'static str {
        match self {
            OfferStatus::Offered => "offered",
            OfferStatus::Accepted => "accepted",
            OfferStatus::Revoked => "revoked",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditOfferV1")]
pub struct Offer {
    pub offer_id: String,
    pub agent_id: String,
    pub pool_id: String,
    pub scope_type: ScopeType,
    pub scope_id: String,
    /// Underwritten.
    pub max_sats: u64,
    /// Underwritten.
    pub fee_bps: u32,
    pub requires_verifier: bool,
    pub exp: Timestamp,
    pub status: OfferStatus,
    pub issued_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditOfferResponseV1")]
pub struct OfferReply {
    /// `openagents.credit.offer_response.v1`.
    pub schema: String,
    pub offer: Offer,
}

/// `POST /internal/v1/credit/envelope` (§4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditEnvelopeRequestV1", example = serde_json::json!({"schema": "openagents.credit.envelope_request.v1", "offer_id": "cepo_5ce267a57b533db5f7b99d2f", "provider_id": "c".repeat(64)}))]
pub struct IssueEnvelope {
    pub schema: String,
    pub offer_id: String,
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    pub provider_id: String,
}

impl operation::Body for IssueEnvelope {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CreditEnvelopeStatusV1")]
pub enum EnvelopeStatus {
    Accepted,
    Revoked,
    Settled,
    Defaulted,
}

impl EnvelopeStatus {
    const ALL: [EnvelopeStatus; 4] = [
        EnvelopeStatus::Accepted,
        EnvelopeStatus::Revoked,
        EnvelopeStatus::Settled,
        EnvelopeStatus::Defaulted,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            EnvelopeStatus::Accepted => "accepted",
            EnvelopeStatus::Revoked => "revoked",
            EnvelopeStatus::Settled => "settled",
            EnvelopeStatus::Defaulted => "defaulted",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditEnvelopeV1")]
pub struct Envelope {
    pub envelope_id: String,
    pub offer_id: String,
    pub agent_id: String,
    pub pool_id: String,
    pub provider_id: String,
    pub scope_type: ScopeType,
    pub scope_id: String,
    pub max_sats: u64,
    pub fee_bps: u32,
    pub exp: Timestamp,
    pub status: EnvelopeStatus,
    pub issued_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditEnvelopeResponseV1")]
pub struct EnvelopeReply {
    /// `openagents.credit.envelope_response.v1`.
    pub schema: String,
    pub envelope: Envelope,
    /// `openagents.credit.envelope_issue_receipt.v1`.
    pub receipt: Value,
}

/// `POST /internal/v1/credit/settle` (§4.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditSettleRequestV1", example = serde_json::json!({"schema": "openagents.credit.settle_request.v1", "envelope_id": "cepe_6591955be72f4b7c9c30a1a4", "verification_passed": true, "verification_receipt_sha256": "befc31aa0b50567f453f5309d3203cb5e32202f9d4c4194c39d1f014a0d1032b", "provider_invoice": "lnbc2500n1demo", "provider_host": "provider.example", "max_fee_msats": 10_000, "policy_context": {"job_hash": "job-7"}}))]
pub struct SettleEnvelope {
    pub schema: String,
    pub envelope_id: String,
    pub verification_passed: bool,
    /// Of the receipt of a verification. Unless callers are believed, it must be one of ours for this job.
    pub verification_receipt_sha256: String,
    /// May be empty where nothing is paid.
    pub provider_invoice: String,
    /// May be empty where nothing is paid.
    pub provider_host: String,
    /// What routing may cost.
    pub max_fee_msats: u64,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub policy_context: Option<Value>,
}

impl operation::Body for SettleEnvelope {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CreditOutcomeV1")]
pub enum Outcome {
    Success,
    Failed,
    Expired,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Success, Outcome::Failed, Outcome::Expired];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failed => "failed",
            Outcome::Expired => "expired",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditSettleResponseV1")]
pub struct CreditSettlement {
    /// `openagents.credit.settle_response.v1`.
    pub schema: String,
    pub envelope_id: String,
    pub settlement_id: String,
    pub outcome: Outcome,
    pub spent_sats: u64,
    pub fee_sats: u64,
    pub verification_receipt_sha256: String,
    pub liquidity_receipt_sha256: Option<String>,
    /// `openagents.credit.envelope_settlement_receipt.v1`, or `openagents.credit.default_notice.v1`.
    pub receipt: Value,
    /// What the agent owes the pool since, all in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_msats: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Under which the wallet was asked to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditBreakersV1")]
pub struct Breakers {
    pub halt_new_envelopes: bool,
    pub halt_large_settlements: bool,
}

/// What is in force (§2.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditPolicyV1")]
pub struct CreditPolicyView {
    pub max_sats_per_envelope: u64,
    pub max_outstanding_envelopes_per_agent: u64,
    pub max_offer_ttl_seconds: u64,
    pub underwriting_history_days: u64,
    pub underwriting_base_sats: u64,
    pub underwriting_k: f64,
    pub underwriting_default_penalty_multiplier: f64,
    pub min_fee_bps: u32,
    pub max_fee_bps: u32,
    pub fee_risk_scaler: f64,
    pub health_window_seconds: u64,
    pub health_settlement_sample_limit: u64,
    pub health_ln_pay_sample_limit: u64,
    pub circuit_breaker_min_sample: u64,
    pub loss_rate_halt_threshold: f64,
    pub ln_failure_rate_halt_threshold: f64,
    pub ln_failure_large_settlement_cap_sats: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditHealthResponseV1")]
pub struct CreditHealth {
    /// `openagents.credit.health_response.v1`.
    pub schema: String,
    pub generated_at: Timestamp,
    pub open_envelope_count: u64,
    pub open_reserved_commitments_sats: u64,
    pub settlement_sample: u64,
    pub loss_count: u64,
    pub loss_rate: f64,
    pub ln_pay_sample: u64,
    pub ln_fail_count: u64,
    pub ln_failure_rate: f64,
    pub breakers: Breakers,
    pub policy: CreditPolicyView,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditAgentExposureResponseV1")]
pub struct Exposure {
    /// `openagents.credit.agent_exposure_response.v1`.
    pub schema: String,
    pub agent_id: String,
    pub open_envelope_count: u64,
    pub open_exposure_sats: u64,
    pub settled_count_30d: u64,
    pub success_volume_sats_30d: u64,
    pub pass_rate_30d: f64,
    pub loss_count_30d: u64,
    pub underwriting_limit_sats: u64,
    pub underwriting_fee_bps: u32,
    pub requires_verifier: bool,
    pub computed_at: Timestamp,
    /// Drawn and not repaid, all in.
    #[serde(default)]
    pub owed_msats: u64,
    /// New envelopes of this agent are halted.
    #[serde(default)]
    pub halted: bool,
    /// Debts that were not repaid when they were due, over the same days; they count for underwriting as losses do.
    #[serde(default)]
    pub default_count_30d: u64,
}

/// `GET /admin/v1/credit/offers/:offer_id`: why an offer is what it is. What was decided stands beside the same
/// decision made once more, from what was written down and from the log of settlements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditExplanation")]
pub struct Explanation {
    /// `openagents.credit.underwriting_explanation.v1`.
    pub schema: String,
    pub offer: Offer,
    /// `openagents.credit.underwriting_audit.v1`, as it was written when the offer was made.
    pub audit: Value,
    pub canonical_json_sha256: String,
    /// The same inputs, read from the log again.
    pub replayed_inputs: Value,
    pub replayed_decision: Value,
    /// Both are what they were.
    pub replay_matches: bool,
}

/// `POST /admin/v1/credit/repay`: an owner pays what an agent owes for one settlement, all of it or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RepayCredit", example = serde_json::json!({"settlement_id": "ceps_bfc67ed9d66b7644aa5ce449", "owner_user_id": 11, "idempotency_key": "repay-1"}))]
pub struct Repay {
    pub settlement_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    /// Everything that is owed, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub amount_msats: Option<u64>,
    pub idempotency_key: String,
}

impl operation::Body for Repay {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CreditLoanStatus")]
pub enum LoanStatus {
    Open,
    Repaid,
    /// Not repaid when it was due; what is still owed stays owed.
    Defaulted,
}

impl LoanStatus {
    const ALL: [LoanStatus; 3] = [LoanStatus::Open, LoanStatus::Repaid, LoanStatus::Defaulted];

    pub const fn name(self) -> &'static str {
        match self {
            LoanStatus::Open => "open",
            LoanStatus::Repaid => "repaid",
            LoanStatus::Defaulted => "defaulted",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What an agent owes a pool for one settlement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditLoan")]
pub struct Loan {
    pub settlement_id: String,
    pub envelope_id: String,
    pub agent_id: String,
    pub pool_id: String,
    pub principal_msats: u64,
    pub routing_msats: u64,
    pub fee_msats: u64,
    pub repaid_msats: u64,
    pub owed_msats: u64,
    pub status: LoanStatus,
    pub due_at: Timestamp,
    /// `openagents.credit.default_notice.v1` with the reason `not_repaid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_notice: Option<Value>,
    /// The payment that the money went out with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<LoanPayment>,
}

/// How the provider was paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditLoanPayment")]
pub struct LoanPayment {
    pub quote_id: String,
    pub invoice: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_receipt_sha256: Option<String>,
    /// Everything that the wallet said; the preimage is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_proof: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreditLoanReply")]
pub struct LoanReply {
    /// `openagents.credit.loan.v1`.
    pub schema: String,
    pub loan: Loan,
}

/// `POST /admin/v1/pools/:pool_id/lending`: whom the pool's credit partition lends to. It replaces what was said before;
/// nobody in it is nobody at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SetPoolLending", example = serde_json::json!({"borrowers": [{"owner_user_id": 11, "max_sats": 20000}], "together_sats": 100000}))]
pub struct SetLending {
    /// At most 256.
    pub borrowers: Vec<Borrower>,
    /// What all of them may have open and owe at one time.
    pub together_sats: u64,
}

impl operation::Body for SetLending {}

/// One of three: an owner with all its agents, by user or by guest scope, or one agent alone, whoever's it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PoolBorrower")]
pub struct Borrower {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    /// 64 hex digits.
    #[schemars(regex(pattern = r"^\s*[0-9a-fA-F]{64}\s*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// What it may have open and owe the pool at one time.
    pub max_sats: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PoolLending")]
pub struct Lending {
    pub pool_id: String,
    /// Who may borrow, as the operator has said it; none where nothing was said: then it is the agents of the pool's
    /// operator, or everybody where callers are believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowers: Option<Vec<Borrower>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together_sats: Option<u64>,
    /// Held for envelopes, or being paid.
    pub held_sats: u64,
    /// Drawn and not repaid, all in.
    pub owed_msats: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PoolLendingReply")]
pub struct LendingReply {
    /// `openagents.credit.pool_lending.v1`.
    pub schema: String,
    pub lending: Lending,
}

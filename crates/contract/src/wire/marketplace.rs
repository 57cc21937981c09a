//! The market for compute: catalogue, choice, price, dispatch (marketplace §4 to §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    jobs::{SandboxRunRequest, SandboxRunResponse},
    workers::{HeartbeatState, WorkerOwner, WorkerStatus},
};
use crate::{amount::Msats, instant::Timestamp, operation};

/// Whose providers, and for what; whoever's and whatever, when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListProviders {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// At most so many, 1 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: Option<u64>,
    /// `next` of an earlier answer: continue behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl operation::Query for ListProviders {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SupplyClass {
    SingleNode,
    LocalCluster,
    BundleRack,
    InstanceMarket,
    ReservePool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PricingStage {
    #[default]
    Fixed,
    Banded,
    Bidding,
}

/// What a capability costs at least and at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricingBand {
    pub capability: String,
    pub min_price_msats: u64,
    pub max_price_msats: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_msats: Option<u64>,
}

/// What the service thinks of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Preferred,
    Qualified,
    Provisional,
}

/// A provider as it is offered: what it says of itself, and what only the service says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogEntry {
    /// `openagents.marketplace.provider_catalog.v1`.
    pub schema: String,
    pub provider_id: String,
    pub worker_id: String,
    pub adapter: String,
    pub owner: WorkerOwner,
    pub status: WorkerStatus,
    pub heartbeat_state: HeartbeatState,
    pub heartbeat_age_ms: Option<i64>,
    pub supply_class: SupplyClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_members: Vec<String>,
    pub reserve_pool: bool,
    pub quarantined: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_reason: Option<String>,
    pub roles: Vec<String>,
    pub base_url: Option<String>,
    pub capabilities: Vec<String>,
    pub min_price_msats: Option<u64>,
    pub pricing_stage: PricingStage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pricing_bands: Vec<PricingBand>,
    pub tier: Tier,
    pub failure_strikes: u64,
    pub success_count: u64,
    pub price_integrity_samples: u64,
    pub price_integrity_violations: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_price_variance_bps: Option<u64>,
    pub updated_at: Timestamp,
}

/// Ascending by `provider_id`, then by `worker_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderCatalog {
    pub providers: Vec<CatalogEntry>,
    /// Give this as `after` for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchemaVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobType {
    pub job_type: String,
    pub schema_version: SchemaVersion,
    pub default_verification: super::jobs::Verification,
    pub description: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobTypeCatalog {
    pub job_types: Vec<JobType>,
}

/// Whose dispatches, and for which capability (`oa.sandbox_run.v1` when not said).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskTelemetry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

impl operation::Query for AskTelemetry {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeTelemetry {
    /// `openagents.marketplace.compute_telemetry.v1`.
    pub schema: String,
    pub owner_key: String,
    pub capability: String,
    pub provider_total: u64,
    pub provider_eligible_owned: u64,
    pub provider_eligible_reserve: u64,
    pub provider_eligible_total: u64,
    pub dispatch: DispatchTelemetry,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchTelemetry {
    pub dispatch_total: u64,
    pub dispatch_not_found: u64,
    pub dispatch_errors: u64,
    pub dispatch_fallbacks: u64,
    pub latency_ms_avg: Option<u64>,
    pub latency_ms_p50: Option<u64>,
    pub samples: u64,
    pub updated_at: Option<Timestamp>,
}

/// Who would be chosen (§5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 11, "capability": "oa.sandbox_run.v1"}))]
pub struct RouteProvider {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    pub capability: String,
}

impl operation::Body for RouteProvider {}

/// Where a provider was found: among the owner's own, or in the reserve pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelectionTier {
    Owned,
    ReservePool,
}

impl SelectionTier {
    pub const fn name(self) -> &'static str {
        match self {
            SelectionTier::Owned => "owned",
            SelectionTier::ReservePool => "reserve_pool",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selection {
    pub provider: CatalogEntry,
    pub tier: SelectionTier,
    /// Who was looked at, best first, and why each was chosen or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<Considered>,
}

/// One provider that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Considered {
    pub provider_id: String,
    pub worker_id: String,
    /// Absent for one that could not be had at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<SelectionTier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_price_msats: Option<u64>,
    /// What was compared: the price with what strikes and broken prices add to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranked_cost_msats: Option<u64>,
    pub outcome: ConsideredOutcome,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsideredOutcome {
    Selected,
    /// Could have done it; another was better.
    Outranked,
    /// Could not have done it.
    Ineligible,
}

/// `POST …/compute/quote/sandbox-run` (§6.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 11, "request": {"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]}}))]
pub struct QuoteSandboxRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    pub request: SandboxRunRequest,
    /// The price of this provider, whoever else is there; a dispatch at that quote asks it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_worker_id: Option<String>,
}

impl operation::Body for QuoteSandboxRun {}

/// A price that binds until `valid_until_unix` (§6.2). Its hash covers every member but `schema`, the two that
/// name it, and `fee_components`, which repeat others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// `openagents.marketplace.compute_all_in_quote.v1`.
    pub schema: String,
    pub quote_id: String,
    pub quote_sha256: String,
    pub provider_id: String,
    pub provider_worker_id: String,
    pub capability: String,
    /// The job's hash.
    pub objective_hash: String,
    pub issued_at_unix: u64,
    pub valid_until_unix: u64,
    pub cancel_until_unix: u64,
    pub cancel_fee_msats: u64,
    pub refund_until_unix: u64,
    pub currency: String,
    pub provider_price_msats: Msats,
    pub operator_fee_msats: Msats,
    pub policy_adder_msats: Msats,
    pub total_price_msats: Msats,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fee_components: Vec<FeeComponent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeeComponent {
    pub component: String,
    pub amount_msats: Msats,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuoteReply {
    /// `openagents.marketplace.compute_quote.v1`.
    pub schema: String,
    pub job_hash: String,
    pub capability: String,
    pub selection: Selection,
    pub quote: Quote,
}

/// `POST …/dispatch/sandbox-run` (§7.1). The same job of the same owner in the same run is one dispatch: asked
/// again, it is answered with what came back the first time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 11, "request": {"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]}}))]
pub struct DispatchSandboxRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    pub request: SandboxRunRequest,
    /// The run that the job belongs to, and whose budget it is held in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// A quote of this owner for this job: its provider is asked first, and nobody who would cost more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
    /// If given, it must be the hash of that quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_sha256: Option<String>,
    /// 1 when not said; another number has the same job run once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempt: Option<u32>,
    /// Where in the owner's budgets the work lies, unless the run's metadata says so in `budget`: an organisation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// a repository in it,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// and an issue of that. Every budget that is set around it bounds the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

impl operation::Body for DispatchSandboxRun {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchReply {
    pub job_hash: String,
    pub selection: Selection,
    pub response: SandboxRunResponse,
    pub latency_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_from_provider_id: Option<String>,
    /// What settlement refers to.
    pub dispatch_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    pub attempt: u32,
    /// The price that is held; absent when the provider asks none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<DispatchHold>,
    /// Every provider that was asked, in turn.
    pub calls: Vec<ProviderCall>,
    /// What we say of the response: that this provider gave it to us for this job.
    pub evidence: DispatchEvidence,
}

/// What is reserved of the owner's budget until the job is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchHold {
    pub transfer_id: String,
    pub amount_msats: Msats,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderCall {
    pub provider_id: String,
    pub worker_id: String,
    pub tier: SelectionTier,
    /// The status that it answered with, or `unreachable`, `timed_out`, `refused`, `bad_status`, `bad_body`,
    /// `abandoned`, `late`.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchEvidence {
    /// `openagents.marketplace.dispatch_evidence.v1`.
    pub schema: String,
    /// Canonical hashes of the two documents.
    pub request_sha256: String,
    pub response_sha256: String,
    pub answered_at: Timestamp,
    /// The canonical hash of this statement's members with those that name the dispatch, which is what is signed.
    pub statement_sha256: String,
    /// x-only, hex; absent where the service has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// One offer, from whatever market.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouterOffer {
    #[schemars(regex(pattern = r"\S"))]
    pub marketplace_id: String,
    #[schemars(regex(pattern = r"\S"))]
    pub provider_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_worker_id: Option<String>,
    #[schemars(range(min = 1))]
    pub total_price_msats: u64,
    /// `msats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability_bps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub constraints: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_sha256: Option<String>,
}

/// `POST …/router/compute/select` (§8.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"owner_user_id": 11, "run_id": "0193a000-0000-7000-8000-000000000001", "capability": "oa.sandbox_run.v1", "policy": "lowest_total_cost_v1", "idempotency_key": "router:7", "candidates": [{"marketplace_id": "market-a", "provider_id": "provider-a", "total_price_msats": 1200, "reliability_bps": 9000}]}))]
pub struct SelectRoute {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    pub run_id: Uuid,
    pub capability: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_hash: Option<String>,
    /// `openagents` when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marketplace_id: Option<String>,
    /// `lowest_total_cost_v1` (when not said), `balanced_v1` or `reliability_first_v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Now, when absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at_unix: Option<u64>,
    pub candidates: Vec<RouterOffer>,
}

impl operation::Body for SelectRoute {}

/// An offer as it is hashed: what is absent is left out, but for `latency_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouterCandidate {
    pub marketplace_id: String,
    pub provider_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_worker_id: Option<String>,
    pub total_price_msats: u64,
    pub latency_ms: Option<u64>,
    pub reliability_bps: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_sha256: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RouterDecision {
    /// `openagents.marketplace.router_decision.v1`.
    pub schema: String,
    pub decision_sha256: String,
    pub policy: String,
    pub run_id: Uuid,
    pub capability: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_hash: Option<String>,
    pub selected: RouterCandidate,
    /// Best first.
    pub candidates: Vec<RouterCandidate>,
    /// The signed announcement of the choice, where the service has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub nostr_event: Option<Box<RawValue>>,
    /// Of each quote that was named, whether it is one of ours at this price; best candidate first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotes: Vec<QuoteStanding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuoteStanding {
    pub marketplace_id: String,
    pub provider_id: String,
    pub quote_id: String,
    pub verified: bool,
}

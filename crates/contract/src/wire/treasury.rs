//! The treasury of compute: what work has cost, what is reserved, and how a job is paid for (marketplace §10).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    jobs::{SandboxRunRequest, SandboxRunResponse},
    marketplace::Quote,
};
use crate::{amount::Msats, instant::Timestamp, operation};

/// Whose account is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeSummaryQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
}

impl operation::Query for ComputeSummaryQuery {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeSummary {
    /// `openagents.treasury.compute_summary.v1`.
    pub schema: String,
    pub owner_key: String,
    pub account: BudgetAccount,
    /// Paid to providers for released jobs, fees not counted.
    pub released_msats_total: Msats,
    pub released_count: u64,
    pub withheld_count: u64,
    /// Who earned most first; at most 200.
    pub provider_earnings: Vec<ProviderEarnings>,
    /// The last changed first; at most 50.
    pub recent_jobs: Vec<ComputeJob>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAccount {
    pub limit_msats: Msats,
    pub reserved_msats: Msats,
    pub spent_msats: Msats,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderEarnings {
    pub provider_id: String,
    pub earned_msats: Msats,
    pub released_jobs: u64,
    pub withheld_jobs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Reserved,
    Released,
    Withheld,
}

impl JobStatus {
    pub const ALL: [JobStatus; 3] = [JobStatus::Reserved, JobStatus::Released, JobStatus::Withheld];

    pub const fn name(self) -> &'static str {
        match self {
            JobStatus::Reserved => "reserved",
            JobStatus::Released => "released",
            JobStatus::Withheld => "withheld",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A job that money was reserved for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComputeJob {
    pub job_hash: String,
    pub owner_key: String,
    pub provider_id: String,
    pub provider_worker_id: String,
    pub reservation_id: String,
    pub amount_msats: Msats,
    pub status: JobStatus,
    pub verification_passed: Option<bool>,
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld_reason: Option<String>,
    pub reserved_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// The name of the settlement: one for an owner, a run, a job and an attempt.
    pub settlement_id: String,
    pub run_id: Uuid,
    pub attempt: u32,
}

/// A page of a provider's movements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementQuery {
    /// 1 to 200, 50 by default; 0 is taken as 1, more as 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `next` of an earlier answer: continue behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

impl operation::Query for StatementQuery {}

/// What a provider has earned, what of that was not paid out yet, and the movements that made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderStatement {
    /// `openagents.treasury.provider_statement.v1`.
    pub schema: String,
    pub worker_id: String,
    pub provider_id: String,
    pub owner_key: String,
    /// Earned and not paid out yet.
    pub payable_msats: Msats,
    pub earned_msats_total: Msats,
    pub paid_msats_total: Msats,
    /// Promised for jobs that are not settled; it may never come.
    pub held_for_jobs_msats: Msats,
    /// Part of what is payable that is on its way out.
    pub paying_out_msats: Msats,
    /// Newest first.
    pub entries: Vec<StatementEntry>,
    /// Give this as `before` for the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One movement: what came in is above zero, what went out below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementEntry {
    /// From 1 on, without a gap.
    pub seq: u64,
    pub at: Timestamp,
    /// `market:<dispatch>:<call>` or `treasury:<settlement>:<reservation>` for jobs.
    pub transfer_id: String,
    /// The step in the life of the transfer.
    pub step: String,
    /// What it changes in what is promised.
    pub pending_msats: i64,
    /// What it changes in what is payable.
    pub posted_msats: i64,
}

/// Gives back what was reserved long ago, and compares what was settled with the ledger and the runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = serde_json::json!({"maxAgeSeconds": 3600, "maxJobs": 50}))]
pub struct Reconcile {
    /// Below zero is zero; the configured time by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<i64>,
    /// 1 to 2000; less and more are taken as these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u64>,
    /// Whose reservations, for an operator; everybody's by default. Others may name themselves only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
}

impl operation::Body for Reconcile {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileSummary {
    /// `openagents.treasury.compute_reconcile_summary.v1`.
    pub schema: String,
    pub reconciled_at: Timestamp,
    pub expired_reservations: u64,
    /// Fees counted.
    pub freed_msats_total: Msats,
    pub updated_jobs: Vec<ComputeJob>,
    /// Where ledger, runs and settlements differ.
    pub drift: DriftReport,
}

/// What the last comparison of settlements with ledger and runs showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftReport {
    /// Settlements compared by this call.
    pub compared_jobs: u64,
    /// Whole rounds over everything that was ever settled, by this call or in the background.
    pub rounds: u64,
    /// Whether what left through a wallet was compared with the wallet's own receipts, or why not.
    #[serde(default)]
    pub wallet_receipts: String,
    /// What does not fit and is not explained yet; at most 50.
    pub findings: Vec<DriftFinding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftFinding {
    /// The settlement; or the transfer or the run's payment that no settlement is found for.
    pub settlement_id: String,
    /// `ledger_missing`, `ledger_state`, `ledger_amount`, `ledger_fee`, `ledger_budget`, `ledger_payee`, `ledger_payer`,
    /// `event_missing`, `event_amount`, `settlement_missing`, `payment_unsettled`, `wallet_unknown`, `wallet_missing`,
    /// `wallet_amount`, or `unreadable`.
    pub kind: String,
    pub detail: String,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// Over which rail a provider is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RoutePolicy {
    #[default]
    DirectOnly,
    ForceCep,
    PreferAgentBalance {
        agent_balance_sats: u64,
        min_reserve_sats: u64,
        #[serde(default = "yes")]
        direct_allowed: bool,
    },
}

const fn yes() -> bool {
    true
}

/// What a credit envelope needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CepTerms {
    pub agent_id: String,
    pub pool_id: String,
    pub provider_invoice: String,
    pub provider_host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
    /// What the agent has declared before (`credit.intent`): the offer stays within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_msats: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_ttl_seconds: Option<i64>,
}

/// Settles one job of one run: pays for it, or withholds the payment and says why. Asked again with the same
/// content, it is answered as it was the first time, for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({
    "owner_user_id": 11, "run_id": "0193a000-0000-7000-8000-000000000001",
    "provider_id": "provider-a", "provider_worker_id": "worker:a", "amount_msats": 1000,
    "request": {"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]},
    "response": {"env_info": {"image_digest": "sha256:test"}, "runs": [{"cmd": "echo hi", "exit_code": 0, "duration_ms": 10, "stdout_sha256": "o", "stderr_sha256": "e"}], "artifacts": [], "status": "success", "provenance": {"model_id": "stub"}}
}))]
pub struct SettleSandboxRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_guest_scope: Option<String>,
    pub run_id: Uuid,
    #[schemars(regex(pattern = r"\S"))]
    pub provider_id: String,
    #[schemars(regex(pattern = r"\S"))]
    pub provider_worker_id: String,
    /// The provider's price, fees not counted.
    pub amount_msats: Msats,
    /// Binds the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_policy: Option<RoutePolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cep: Option<CepTerms>,
    pub request: SandboxRunRequest,
    pub response: SandboxRunResponse,
    /// The dispatch that received the response; without it, it is found by the job and the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<String>,
    /// 1 by default: the same job done once more in the same run is another attempt, and is paid for once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempt: Option<u32>,
    /// Has the job run once more by somebody else before it is paid, whatever the sample says. No is what it is by
    /// default: a payer can only ask for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reexecute: Option<bool>,
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

impl operation::Body for SettleSandboxRun {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settlement {
    pub job_hash: String,
    pub reservation_id: String,
    /// What was reserved for the provider, also when it is withheld.
    pub amount_msats: Msats,
    pub verification_passed: bool,
    pub exit_code: i32,
    pub violations: Vec<String>,
    /// `released` or `withheld`.
    pub settlement_status: JobStatus,
    pub settlement_route: SettlementRoute,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_offer_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_envelope_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_settlement_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_liquidity_receipt_sha256: Option<String>,
    pub verification_receipt_sha256: String,
    pub settlement_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<String>,
    /// What running the job once more showed, where that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reexecution: Option<ReexecutionReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettlementRoute {
    DirectLiquidity,
    CepEnvelope,
}

impl SettlementRoute {
    pub const fn name(self) -> &'static str {
        match self {
            SettlementRoute::DirectLiquidity => "direct_liquidity",
            SettlementRoute::CepEnvelope => "cep_envelope",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReexecutionReport {
    pub outcome: ReexecutionOutcome,
    /// Who ran it again.
    pub observers: Vec<String>,
    /// What differs from the provider's answer: `exit_code[0]`, `stdout[0]`, `artifact:path` and so on.
    pub differences: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReexecutionOutcome {
    /// Nothing that must be equal differs.
    Confirmed,
    /// One other came to something else: nobody is paid, and nobody is judged.
    Disputed,
    /// The others agree with each other, and not with the provider.
    Refuted,
    /// Nobody else could run it.
    Unavailable,
}

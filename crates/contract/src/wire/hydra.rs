//! Hydra's scoring of routes (marketplace §9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{instant::Timestamp, operation};

/// One candidate. `constraints` must be an object when it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreOffer {
    #[schemars(regex(pattern = r"\S"))]
    pub marketplace_id: String,
    #[schemars(regex(pattern = r"\S"))]
    pub provider_id: String,
    #[serde(default)]
    pub provider_worker_id: Option<String>,
    #[schemars(range(min = 1))]
    pub total_price_msats: u64,
    #[serde(default)]
    pub latency_ms: Option<u64>,
    pub reliability_bps: u32,
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub constraints: Option<serde_json::Value>,
    #[serde(default)]
    pub quote_id: Option<String>,
    #[serde(default)]
    pub quote_sha256: Option<String>,
}

/// `POST /internal/v1/hydra/routing/score` (§9.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"schema": "openagents.hydra.routing_score_request.v1", "idempotency_key": "hydra:42", "run_id": "0193a000-0000-7000-8000-000000000001", "marketplace_id": "openagents", "capability": "oa.sandbox_run.v1", "policy": "lowest_total_cost_v1", "objective_hash": "sha256:objective", "decided_at_unix": 1_700_000_111, "candidates": [{"marketplace_id": "market-a", "provider_id": "provider-a", "total_price_msats": 1200, "latency_ms": 50, "reliability_bps": 9100}]}))]
pub struct ScoreRoutes {
    pub schema: String,
    pub idempotency_key: String,
    /// A UUID; anything else is refused with 400.
    pub run_id: String,
    pub marketplace_id: String,
    pub capability: String,
    /// `lowest_total_cost_v1` (when blank), `balanced_v1` or `reliability_first_v1`.
    pub policy: String,
    #[serde(default)]
    pub objective_hash: Option<String>,
    /// Now, when 0.
    pub decided_at_unix: u64,
    pub candidates: Vec<ScoreOffer>,
}

impl operation::Body for ScoreRoutes {}

/// A candidate as it is answered: every member present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoredCandidate {
    pub marketplace_id: String,
    pub provider_id: String,
    pub provider_worker_id: Option<String>,
    pub total_price_msats: u64,
    pub latency_ms: Option<u64>,
    pub reliability_bps: u32,
    pub constraints: serde_json::Value,
    pub quote_id: Option<String>,
    pub quote_sha256: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingFactors {
    pub expected_fee_msats: u64,
    pub confidence: f64,
    pub liquidity_score: f64,
    pub policy_notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingReceipt {
    /// `openagents.hydra.routing_decision_receipt.v1`.
    pub receipt_schema: String,
    pub receipt_id: String,
    pub canonical_json_sha256: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoutingScore {
    /// `openagents.hydra.routing_score_response.v1`.
    pub schema: String,
    pub decision_sha256: String,
    pub policy: String,
    pub run_id: String,
    pub marketplace_id: String,
    pub capability: String,
    pub objective_hash: Option<String>,
    pub selected: ScoredCandidate,
    /// Best first.
    pub candidates: Vec<ScoredCandidate>,
    pub factors: RoutingFactors,
    pub receipt: RoutingReceipt,
    /// The signed announcement of the choice; `{}` where the service has no key.
    #[schemars(with = "serde_json::Value")]
    pub nostr_event: Box<RawValue>,
    pub decided_at_unix: u64,
}

/// `GET /internal/v1/hydra/risk/health` (liquidity §11.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RiskHealth {
    /// `openagents.hydra.risk_health_response.v1`.
    pub schema: String,
    pub generated_at: Timestamp,
    pub credit_breakers: CreditBreakers,
    pub liquidity: LiquidityRisk,
    pub routing: RoutingRisk,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreditBreakers {
    pub halt_new_envelopes: bool,
    pub halt_large_settlements: bool,
}

/// What is known of the wallet, and of the throttle of the primary pool where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiquidityRisk {
    pub wallet_executor_configured: bool,
    pub wallet_executor_reachable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle_reasons: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle_extra_delay_hours: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_throttle_execution_cap_per_tick: Option<u64>,
    /// How old what is known of the wallet is; it is asked in the background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingRisk {
    pub degraded: bool,
    pub direct_disabled: bool,
    pub reasons: Vec<String>,
}

/// `GET /internal/v1/hydra/observability` (liquidity §11.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HydraObservabilityResponseV1")]
pub struct Observability {
    /// `openagents.hydra.observability_response.v1`.
    pub schema: String,
    pub generated_at: Timestamp,
    pub routing: RoutingCounts,
    pub breakers: BreakerCounts,
    pub withdrawal_throttle: ThrottleCounts,
    pub fx: FxCounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingCounts {
    pub decision_total: u64,
    pub selected_route_direct: u64,
    pub selected_route_cep: u64,
    pub selected_route_other: u64,
    pub confidence_lt_040: u64,
    pub confidence_040_070: u64,
    pub confidence_070_090: u64,
    pub confidence_gte_090: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerCounts {
    pub halt_new_envelopes: bool,
    pub halt_large_settlements: bool,
    pub transition_total: u64,
    pub recovery_total: u64,
    pub halt_new_envelopes_transition_total: u64,
    pub halt_new_envelopes_recovery_total: u64,
    pub halt_large_settlements_transition_total: u64,
    pub halt_large_settlements_recovery_total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThrottleCounts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_delay_hours: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_cap_per_tick: Option<u64>,
    pub affected_requests_total: u64,
    pub rejected_requests_total: u64,
    pub stressed_requests_total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FxCounts {
    pub rfq_total: u64,
    pub quote_total: u64,
    pub settlement_total: u64,
    pub quote_to_settlement_rate: f64,
    pub spread_bps_avg: f64,
    pub spread_bps_median: f64,
    pub settlement_withheld_total: u64,
    pub settlement_failed_total: u64,
    pub treasury_provider_breadth: u64,
}

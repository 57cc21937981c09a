//! `GET /internal/v1/hydra/observability`: what was counted and where the breakers stand, over all replicas and
//! restarts (liquidity §11.2). It computes nothing anew.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::HydraObservability,
    wire::hydra::{BreakerCounts, Observability, RoutingCounts, ThrottleCounts},
};

use crate::Runtime;

impl Handle<HydraObservability> for Runtime {
    async fn handle(&self, _: Ask<HydraObservability>) -> Result<Answer<Observability>, Stop> {
        let (counted, [envelopes, settlements]) = self.hydra.read(&self.store).await?;
        let of = |name: &str| counted.get(name).copied().unwrap_or_default();
        let throttle = self.hydra.throttle();
        Ok(Observability {
            schema: "openagents.hydra.observability_response.v1".into(),
            generated_at: self.now(),
            routing: RoutingCounts {
                decision_total: of("routing.decision_total"),
                selected_route_direct: of("routing.selected_route_direct"),
                selected_route_cep: of("routing.selected_route_cep"),
                selected_route_other: of("routing.selected_route_other"),
                confidence_lt_040: of("routing.confidence_lt_040"),
                confidence_040_070: of("routing.confidence_040_070"),
                confidence_070_090: of("routing.confidence_070_090"),
                confidence_gte_090: of("routing.confidence_gte_090"),
            },
            breakers: BreakerCounts {
                halt_new_envelopes: envelopes.is_open,
                halt_large_settlements: settlements.is_open,
                transition_total: envelopes.transitions + settlements.transitions,
                recovery_total: envelopes.recoveries + settlements.recoveries,
                halt_new_envelopes_transition_total: envelopes.transitions,
                halt_new_envelopes_recovery_total: envelopes.recoveries,
                halt_large_settlements_transition_total: settlements.transitions,
                halt_large_settlements_recovery_total: settlements.recoveries,
                last_transition_at: envelopes.changed_at.max(settlements.changed_at),
            },
            withdrawal_throttle: ThrottleCounts {
                mode: throttle.as_ref().map(|throttle| throttle.mode.clone()),
                reasons: throttle.as_ref().map(|throttle| throttle.reasons.clone()),
                extra_delay_hours: throttle.as_ref().map(|throttle| throttle.extra_delay_hours),
                execution_cap_per_tick: throttle.and_then(|throttle| throttle.execution_cap_per_tick),
                affected_requests_total: of("throttle.affected"),
                rejected_requests_total: of("throttle.rejected"),
                stressed_requests_total: of("throttle.stressed"),
            },
            fx: self.fx_counts().await?,
        }
        .into())
    }
}

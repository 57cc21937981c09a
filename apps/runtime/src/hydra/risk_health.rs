//! `GET /internal/v1/hydra/risk/health`: what is risky about routes now, and why (liquidity §11.1).

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::HydraRiskHealth,
    wire::hydra::{CreditBreakers, LiquidityRisk, RiskHealth},
};

use super::sources::ThrottleView;
use crate::Runtime;

impl Handle<HydraRiskHealth> for Runtime {
    async fn handle(&self, _: Ask<HydraRiskHealth>) -> Result<Answer<RiskHealth>, Stop> {
        let risks = self.risks().await?;
        let age_ms = risks.at.millis_since(risks.wallet.at).max(0).unsigned_abs();
        let mut liquidity = LiquidityRisk {
            wallet_executor_configured: risks.wallet.configured,
            wallet_executor_reachable: risks.wallet.reachable,
            error_code: risks.wallet.error_code,
            error_message: risks.wallet.error_message,
            age_ms: risks.wallet.configured.then_some(age_ms),
            ..LiquidityRisk::default()
        };
        if let ThrottleView::Read(throttle) = risks.throttle {
            liquidity.withdraw_throttle_mode = Some(throttle.mode);
            liquidity.withdraw_throttle_reasons =
                Some(throttle.reasons).filter(|reasons| !reasons.is_empty());
            liquidity.withdraw_throttle_extra_delay_hours = Some(throttle.extra_delay_hours);
            liquidity.withdraw_throttle_execution_cap_per_tick = throttle.execution_cap_per_tick;
        }
        Ok(RiskHealth {
            schema: "openagents.hydra.risk_health_response.v1".into(),
            generated_at: risks.at,
            credit_breakers: CreditBreakers {
                halt_new_envelopes: risks.credit.halt_new_envelopes,
                halt_large_settlements: risks.credit.halt_large_settlements,
            },
            liquidity,
            routing: risks.routing,
        }
        .into())
    }
}

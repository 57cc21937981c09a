//! Decides what is risky about routes at the moment (liquidity §11.1): from what the lanes have kept, and from what
//! the wallet said when the background last asked it. No request asks the wallet.

use oa_contract::{Port as _, Stop, Timestamp, wire::hydra::RoutingRisk};
use oa_market::score::Risk;

use super::sources::{CreditView, Throttle, ThrottleView};
use crate::{Runtime, liquidity::watch::Seen};

/// A lane that loses or fails more than this is a reason of its own.
const ELEVATED: f64 = 0.35;

/// Everything that is known of the risks of a moment.
#[derive(Clone, Debug)]
pub struct Risks {
    pub credit: CreditView,
    pub wallet: Seen,
    pub throttle: ThrottleView,
    pub routing: RoutingRisk,
    pub at: Timestamp,
}

impl Risks {
    /// As routes are scored under it.
    pub fn for_scoring(&self) -> Risk {
        Risk {
            direct_disabled: self.routing.direct_disabled,
            halt_new_envelopes: self.credit.halt_new_envelopes,
            degraded: self.routing.degraded,
            reasons: self.routing.reasons.clone(),
        }
    }
}

impl Runtime {
    /// The risks of now. Every look is counted: what has changed since the last one is a transition.
    pub(crate) async fn risks(&self) -> Result<Risks, Stop> {
        let at = self.now();
        let credit = self.credit_view().await?;
        let throttle = self.throttle_view().await;
        let configured = self.payments.wallet().about().face != "none";
        let wallet = self.wallet_watch.known(configured, at);
        let writes = self.admits_writes().is_ok();
        self.hydra.saw(&self.store, &credit, &throttle, writes, at).await?;
        Ok(Risks { routing: judge(&credit, &wallet, &throttle), credit, wallet, throttle, at })
    }
}

/// The reasons, in the order of the specification.
pub fn judge(credit: &CreditView, wallet: &Seen, throttle: &ThrottleView) -> RoutingRisk {
    let unavailable = !(wallet.configured && wallet.reachable);
    let mode = |name: &str| matches!(throttle, ThrottleView::Read(Throttle { mode, .. }) if mode == name);
    let (halted, stressed) = (mode("halted"), mode("stressed"));
    // What is found, whether it degrades, and whether nothing can be paid directly.
    let found = [
        ("direct_liquidity_unavailable", unavailable, true, true),
        ("llp_withdrawals_halted", halted, true, true),
        ("llp_withdrawals_stressed", stressed, true, false),
        ("llp_pool_not_found", *throttle == ThrottleView::PoolNotFound, false, false),
        ("llp_throttle_unavailable", *throttle == ThrottleView::Unavailable, false, false),
        ("cep_halt_new_envelopes", credit.halt_new_envelopes, true, false),
        ("cep_halt_large_settlements", credit.halt_large_settlements, true, false),
        ("credit_loss_rate_elevated", credit.loss_rate > ELEVATED, true, false),
        ("liquidity_ln_failure_rate_elevated", credit.ln_failure_rate > ELEVATED, true, false),
    ];
    let mut risk = RoutingRisk::default();
    for (reason, holds, degrades, disables) in found {
        if holds {
            risk.reasons.push(reason.into());
            risk.degraded |= degrades;
            risk.direct_disabled |= disables;
        }
    }
    risk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet(reachable: bool) -> Seen {
        Seen {
            configured: true,
            reachable,
            status: None,
            error_code: None,
            error_message: None,
            at: Timestamp::EPOCH,
        }
    }

    fn throttle(mode: &str) -> ThrottleView {
        ThrottleView::Read(Throttle {
            mode: mode.into(),
            reasons: vec!["x".into()],
            extra_delay_hours: 1,
            execution_cap_per_tick: None,
        })
    }

    #[test]
    fn a_good_wallet_and_nothing_else_is_no_risk() {
        let risk = judge(&CreditView::default(), &wallet(true), &throttle("normal"));
        assert_eq!(risk, RoutingRisk::default());
    }

    #[test]
    fn reasons_stand_in_their_order_with_what_they_do() {
        let none = CreditView::default();
        let halting = CreditView { halt_new_envelopes: true, halt_large_settlements: true, ..none };
        let losing = CreditView { loss_rate: 0.36, ln_failure_rate: 0.36, ..none };
        let exact = CreditView { loss_rate: 0.35, ln_failure_rate: 0.35, ..none };
        for (credit, reachable, throttle, reasons, degraded, disabled) in [
            (none, false, ThrottleView::Off, vec!["direct_liquidity_unavailable"], true, true),
            (none, true, throttle("halted"), vec!["llp_withdrawals_halted"], true, true),
            (none, true, throttle("stressed"), vec!["llp_withdrawals_stressed"], true, false),
            (none, true, ThrottleView::PoolNotFound, vec!["llp_pool_not_found"], false, false),
            (none, true, ThrottleView::Unavailable, vec!["llp_throttle_unavailable"], false, false),
            (
                halting,
                true,
                ThrottleView::Off,
                vec!["cep_halt_new_envelopes", "cep_halt_large_settlements"],
                true,
                false,
            ),
            (
                losing,
                true,
                ThrottleView::Off,
                vec!["credit_loss_rate_elevated", "liquidity_ln_failure_rate_elevated"],
                true,
                false,
            ),
            (exact, true, ThrottleView::Off, vec![], false, false),
        ] {
            let risk = judge(&credit, &wallet(reachable), &throttle);
            assert_eq!(risk.reasons, reasons);
            assert_eq!((risk.degraded, risk.direct_disabled), (degraded, disabled), "{reasons:?}");
        }
    }
}

//! Decides what is risky about routes at the moment (marketplace §9.2). As long as no wallet is configured, nothing
//! can be paid directly, and every decision says so.

use oa_market::score::Risk;

use crate::Runtime;

impl Runtime {
    /// The risks of now, from what is known without asking anybody.
    pub(crate) fn risk(&self) -> Risk {
        Risk {
            direct_disabled: true,
            halt_new_envelopes: false,
            degraded: true,
            reasons: vec!["direct_liquidity_unavailable".into()],
        }
    }
}

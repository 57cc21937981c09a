//! Decides where Hydra's figures come from: each lane tells its own, from the store and without asking anybody else.

use oa_contract::{Stop, wire::hydra::FxCounts};

use crate::Runtime;

/// What the credit lane says of itself (liquidity §11.1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CreditView {
    pub halt_new_envelopes: bool,
    pub halt_large_settlements: bool,
    pub loss_rate: f64,
    pub ln_failure_rate: f64,
}

/// The throttle of the primary pool (liquidity §7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottleView {
    /// Pools are not throttled here.
    #[default]
    Off,
    PoolNotFound,
    Unavailable,
    Read(Throttle),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// `normal`, `stressed` or `halted`.
    pub mode: String,
    pub reasons: Vec<String>,
    pub extra_delay_hours: u64,
    pub execution_cap_per_tick: Option<u64>,
}

impl ThrottleView {
    pub fn mode(&self) -> Option<&str> {
        match self {
            ThrottleView::Read(throttle) => Some(&throttle.mode),
            _ => None,
        }
    }
}

impl Runtime {
    pub(crate) async fn credit_view(&self) -> Result<CreditView, Stop> {
        Ok(CreditView::default())
    }

    pub(crate) async fn throttle_view(&self) -> ThrottleView {
        ThrottleView::Off
    }

    pub(crate) async fn fx_counts(&self) -> Result<FxCounts, Stop> {
        Ok(FxCounts::default())
    }
}

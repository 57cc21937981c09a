//! Decides where Hydra's figures come from: each lane tells its own, from the store and without asking anybody else.

use oa_contract::{Stop, wire::hydra::FxCounts};
use oa_store::{Tx, tables::fx_sums};

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
        let (sample, _) = self.credit_sample().await?;
        let breakers = sample.breakers(&self.config.credit);
        Ok(CreditView {
            halt_new_envelopes: breakers.halt_new_envelopes,
            halt_large_settlements: breakers.halt_large_settlements,
            loss_rate: sample.counted_loss_rate(),
            ln_failure_rate: sample.counted_failure_rate(),
        })
    }

    pub(crate) async fn throttle_view(&self) -> ThrottleView {
        let Some(pool_id) = self.config.pools.snapshot_pools.first() else {
            return ThrottleView::PoolNotFound;
        };
        match self.pool_throttle(pool_id).await {
            Ok(None) => ThrottleView::Off,
            Ok(Some(None)) => ThrottleView::PoolNotFound,
            Ok(Some(Some(throttle))) => ThrottleView::Read(Throttle {
                mode: throttle.mode.name().into(),
                reasons: throttle.reasons,
                extra_delay_hours: throttle.extra_delay_hours.into(),
                execution_cap_per_tick: throttle.execution_cap_per_tick.map(u64::from),
            }),
            Err(stop) => {
                tracing::warn!(error = %stop, "the throttle of the primary pool could not be read");
                ThrottleView::Unavailable
            }
        }
    }

    pub(crate) async fn fx_counts(&self) -> Result<FxCounts, Stop> {
        let look = async |tx: &mut Tx, (): &()| fx_sums::observed(tx).await;
        let observed = self.store.read("hydra.fx_counts", (), look).await?;
        let counters = observed.counters;
        Ok(FxCounts {
            rfq_total: counters.rfqs,
            quote_total: counters.quotes,
            settlement_total: counters.settlements,
            quote_to_settlement_rate: match counters.quotes {
                0 => 0.0,
                quotes => counters.settlements as f64 / quotes as f64,
            },
            spread_bps_avg: observed.spread_bps_average,
            spread_bps_median: observed.spread_bps_median,
            settlement_withheld_total: counters.withheld,
            settlement_failed_total: 0,
            treasury_provider_breadth: counters.providers,
        })
    }
}

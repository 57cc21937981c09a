//! `GET /internal/v1/marketplace/telemetry/compute`: who could be had now, and how dispatching went for an owner
//! (marketplace §7.5).

use oa_contract::{
    Answer, Ask, Handle, Owner, Stop,
    matrix::MarketplaceTelemetryCompute,
    wire::{
        jobs::SANDBOX_RUN,
        marketplace::{ComputeTelemetry, DispatchTelemetry},
    },
};
use oa_market::Need;
use oa_store::{
    Tx,
    tables::market_telemetry::{self, TelemetryRow},
};

use crate::{
    Runtime,
    workers::{owner, snapshot::Moment},
};

const SCHEMA: &str = "openagents.marketplace.compute_telemetry.v1";

impl Handle<MarketplaceTelemetryCompute> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceTelemetryCompute>) -> Result<Answer<ComputeTelemetry>, Stop> {
        let owner = owner(&ask.caller, ask.query.owner_user_id, ask.query.owner_guest_scope.as_deref())?;
        let capability = ask.query.capability.as_deref().map(str::trim).filter(|said| !said.is_empty());
        let capability = capability.unwrap_or(SANDBOX_RUN);
        self.market.refresh(&self.store, &self.hub).await?;
        let Moment { now, stale_after_ms } = Moment::of(self);
        let need = Need { capability, owner: &owner, resources: None, now, stale_after_ms };
        let (total, (owned, reserve)) = self.market.count(need);
        let row = self.store.read("market.telemetry", owner.clone(), read).await?;
        Ok(ComputeTelemetry {
            schema: SCHEMA.into(),
            owner_key: owner.to_string(),
            capability: capability.to_owned(),
            provider_total: total as u64,
            provider_eligible_owned: owned,
            provider_eligible_reserve: reserve,
            provider_eligible_total: owned + reserve,
            dispatch: told(row),
        }
        .into())
    }
}

async fn read(tx: &mut Tx, owner: &Owner) -> Result<Option<TelemetryRow>, Stop> {
    market_telemetry::get(tx, owner).await
}

fn told(row: Option<TelemetryRow>) -> DispatchTelemetry {
    let Some(row) = row else {
        return DispatchTelemetry {
            dispatch_total: 0,
            dispatch_not_found: 0,
            dispatch_errors: 0,
            dispatch_fallbacks: 0,
            latency_ms_avg: None,
            latency_ms_p50: None,
            samples: 0,
            updated_at: None,
        };
    };
    let mut sorted = row.latencies;
    sorted.sort_unstable();
    let samples = sorted.len() as u64;
    let sum: u128 = sorted.iter().copied().map(u128::from).sum();
    DispatchTelemetry {
        dispatch_total: row.dispatch_total,
        dispatch_not_found: row.dispatch_not_found,
        dispatch_errors: row.dispatch_errors,
        dispatch_fallbacks: row.dispatch_fallbacks,
        latency_ms_avg: sum.checked_div(samples.into()).and_then(|mean| u64::try_from(mean).ok()),
        latency_ms_p50: sorted.get(sorted.len().saturating_sub(1) / 2).copied(),
        samples,
        updated_at: Some(row.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Timestamp;

    use super::*;

    #[test]
    fn the_middle_is_the_lower_one_and_the_mean_is_whole() {
        let told = |latencies: Vec<u64>| {
            let row = TelemetryRow {
                owner: Owner::User(1),
                dispatch_total: 7,
                dispatch_not_found: 0,
                dispatch_errors: 0,
                dispatch_fallbacks: 0,
                latencies,
                updated_at: Timestamp::EPOCH,
            };
            let told = told(Some(row));
            (told.latency_ms_avg, told.latency_ms_p50, told.samples)
        };
        assert_eq!(told(vec![40, 10, 21, 30]), (Some(25), Some(21), 4));
        assert_eq!(told(vec![7]), (Some(7), Some(7), 1));
        assert_eq!(told(vec![]), (None, None, 0));
    }
}

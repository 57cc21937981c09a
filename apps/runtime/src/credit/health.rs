//! `GET /internal/v1/credit/health`: how credit goes, and which breakers are open (credit-fx §3.3, §4.5). Computed on each
//! look, from a bounded number of the latest settlements and payments.

use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop, Timestamp,
    matrix::CreditHealth as HealthRow,
    wire::credit::{Breakers, CreditHealth, Outcome},
};
use oa_store::{
    Tx,
    tables::credit_sums::{self, Whose},
};

use super::CreditPolicy;
use crate::Runtime;

/// At least so many are looked at.
const LEAST_SAMPLE: u64 = 50;

/// How settlements and payments went lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub settlements: u64,
    pub losses: u64,
    pub payments: u64,
    pub failures: u64,
}

fn rate(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

impl Sample {
    pub fn loss_rate(&self) -> f64 {
        rate(self.losses, self.settlements)
    }

    pub fn failure_rate(&self) -> f64 {
        rate(self.failures, self.payments)
    }

    /// The comparisons word for word: a threshold below zero trips with no data.
    pub fn breakers(&self, policy: &CreditPolicy) -> Breakers {
        let least = policy.circuit_breaker_min_sample;
        Breakers {
            halt_new_envelopes: self.settlements >= least
                && self.loss_rate() > policy.loss_rate_halt_threshold,
            halt_large_settlements: self.payments >= least
                && self.failure_rate() > policy.ln_failure_rate_halt_threshold,
        }
    }
}

fn since(policy: &CreditPolicy, now: Timestamp) -> Timestamp {
    now.plus_seconds(-i64::try_from(policy.health_window_seconds.max(60)).unwrap_or(i64::MAX))
}

/// Everybody's: what the published breakers are about.
pub async fn sample(tx: &mut Tx, policy: &CreditPolicy, now: Timestamp) -> Result<Sample, Stop> {
    let since = since(policy, now);
    let of = settlements(tx, policy, Whose::All, now).await?;
    let limit = policy.health_ln_pay_sample_limit.max(LEAST_SAMPLE);
    let payments = credit_sums::payment_statuses(tx, since, limit).await?;
    Ok(Sample {
        payments: payments.len() as u64,
        failures: payments.iter().filter(|status| *status != "succeeded").count() as u64,
        ..of
    })
}

async fn settlements(
    tx: &mut Tx,
    policy: &CreditPolicy,
    whose: Whose<'_>,
    now: Timestamp,
) -> Result<Sample, Stop> {
    let limit = policy.health_settlement_sample_limit.max(LEAST_SAMPLE);
    let outcomes = credit_sums::outcomes(tx, whose, since(policy, now), limit).await?;
    Ok(Sample {
        settlements: outcomes.len() as u64,
        losses: outcomes.iter().filter(|outcome| **outcome != Outcome::Success).count() as u64,
        ..Sample::default()
    })
}

/// Whether an agent's or a pool's own settlements went so badly that it gets no more envelopes.
pub async fn halted(
    tx: &mut Tx,
    policy: &CreditPolicy,
    whose: Whose<'_>,
    now: Timestamp,
) -> Result<bool, Stop> {
    Ok(settlements(tx, policy, whose, now).await?.breakers(policy).halt_new_envelopes)
}

pub fn open(breaker: &str) -> Refusal {
    Refusal::new(Code::DependencyUnavailable, format!("credit circuit breaker: {breaker}"))
}

type Look = (CreditPolicy, Timestamp);

async fn look(tx: &mut Tx, (policy, now): &Look) -> Result<(Sample, credit_sums::Open), Stop> {
    Ok((sample(tx, policy, *now).await?, credit_sums::open_all(tx, *now).await?))
}

impl Runtime {
    pub(crate) async fn credit_sample(&self) -> Result<(Sample, credit_sums::Open), Stop> {
        self.store.read("credit.health", (self.config.credit.clone(), self.now()), look).await
    }
}

impl Handle<HealthRow> for Runtime {
    async fn handle(&self, _: Ask<HealthRow>) -> Result<Answer<CreditHealth>, Stop> {
        let (sample, open) = self.credit_sample().await?;
        let policy = &self.config.credit;
        Ok(CreditHealth {
            schema: "openagents.credit.health_response.v1".into(),
            generated_at: self.now(),
            open_envelope_count: open.count,
            open_reserved_commitments_sats: open.sats,
            settlement_sample: sample.settlements,
            loss_count: sample.losses,
            loss_rate: sample.loss_rate(),
            ln_pay_sample: sample.payments,
            ln_fail_count: sample.failures,
            ln_failure_rate: sample.failure_rate(),
            breakers: sample.breakers(policy),
            policy: policy.view(),
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_strictly_above_its_threshold_and_never_on_too_few() {
        let policy = CreditPolicy::default();
        let trips = |settlements, losses| {
            Sample { settlements, losses, ..Sample::default() }.breakers(&policy).halt_new_envelopes
        };
        assert!(!trips(4, 4) && !trips(6, 3) && trips(6, 4));
        let pays = |payments, failures| {
            Sample { payments, failures, ..Sample::default() }.breakers(&policy).halt_large_settlements
        };
        assert!(!pays(4, 4) && !pays(10, 5) && pays(10, 6));
    }

    #[test]
    fn a_threshold_below_zero_trips_with_no_data() {
        let policy = CreditPolicy {
            circuit_breaker_min_sample: 0,
            loss_rate_halt_threshold: -1.0,
            ..CreditPolicy::default()
        };
        assert!(Sample::default().breakers(&policy).halt_new_envelopes);
    }
}

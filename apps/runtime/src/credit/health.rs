//! `GET /internal/v1/credit/health`: how credit goes, and which breakers are open (credit-fx §3.3, §4.5). Computed on each
//! look, from a bounded number of the latest settlements and payments.

use oa_contract::{
    Answer, Ask, Code, Handle, Refusal, Stop, Timestamp,
    matrix::CreditHealth as HealthRow,
    wire::credit::{Breakers, CreditHealth},
};
use oa_store::{
    Tx,
    tables::credit_sums::{self, Whose},
};

use super::CreditPolicy;
use crate::{Runtime, TrustMode};

/// At least so many are looked at.
const LEAST_SAMPLE: u64 = 50;

/// How settlements and payments went lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub settlements: u64,
    pub losses: u64,
    /// Losses that open a breaker: where callers are not believed, no borrower's count for more than two.
    pub counted_losses: u64,
    pub payments: u64,
    pub failures: u64,
    /// Failures that open a breaker: where callers are not believed, an envelope's count for one and no borrower's for
    /// more than two.
    pub counted_failures: u64,
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

    /// The rate that breakers and routing go by: one who fails on purpose turns nobody else away.
    pub fn counted_loss_rate(&self) -> f64 {
        rate(self.counted_losses, self.counted())
    }

    /// Settlements without the losses that do not count.
    fn counted(&self) -> u64 {
        self.settlements - (self.losses - self.counted_losses)
    }

    /// Payments without the failures that do not count.
    fn counted_payments(&self) -> u64 {
        self.payments - (self.failures - self.counted_failures)
    }

    /// The rate that breakers and risk go by.
    pub fn counted_failure_rate(&self) -> f64 {
        rate(self.counted_failures, self.counted_payments())
    }

    pub fn failure_rate(&self) -> f64 {
        rate(self.failures, self.payments)
    }

    /// The comparisons word for word: a threshold below zero trips with no data.
    pub fn breakers(&self, policy: &CreditPolicy) -> Breakers {
        let least = policy.circuit_breaker_min_sample;
        Breakers {
            halt_new_envelopes: self.counted() >= least
                && self.counted_loss_rate() > policy.loss_rate_halt_threshold,
            halt_large_settlements: self.counted_payments() >= least
                && self.counted_failure_rate() > policy.ln_failure_rate_halt_threshold,
        }
    }
}

fn since(policy: &CreditPolicy, now: Timestamp) -> Timestamp {
    now.plus_seconds(-i64::try_from(policy.health_window_seconds.max(60)).unwrap_or(i64::MAX))
}

/// Everybody's: what the published breakers are about. One who fails on purpose halts nobody else, unless callers are
/// believed: then the breaker is the specification's, word for word.
pub async fn sample(
    tx: &mut Tx,
    policy: &CreditPolicy,
    lenient: bool,
    now: Timestamp,
) -> Result<Sample, Stop> {
    let ended = settlements(tx, policy, Whose::All, now).await?;
    let limit = policy.health_ln_pay_sample_limit.max(LEAST_SAMPLE);
    let (payments, failures, bounded_failures) =
        credit_sums::payments_ended(tx, since(policy, now), limit).await?;
    Ok(Sample {
        settlements: ended.settlements,
        losses: ended.losses,
        counted_losses: if lenient { ended.losses } else { ended.bounded_losses },
        payments,
        failures,
        counted_failures: if lenient { failures } else { bounded_failures },
    })
}

async fn settlements(
    tx: &mut Tx,
    policy: &CreditPolicy,
    whose: Whose<'_>,
    now: Timestamp,
) -> Result<credit_sums::Ended, Stop> {
    let limit = policy.health_settlement_sample_limit.max(LEAST_SAMPLE);
    credit_sums::ended(tx, whose, since(policy, now), limit).await
}

/// Whether an agent's, a pool's or a provider's own settlements went so badly that it gets no more envelopes. Of a pool's
/// and a provider's, no borrower's count for more than two: nobody else is halted by one who fails on purpose.
pub async fn halted(
    tx: &mut Tx,
    policy: &CreditPolicy,
    whose: Whose<'_>,
    now: Timestamp,
) -> Result<bool, Stop> {
    let ended = settlements(tx, policy, whose, now).await?;
    let counted_losses = match whose {
        Whose::All | Whose::Agent(_) => ended.losses,
        Whose::Pool(_) | Whose::Provider(_) => ended.bounded_losses,
    };
    let sample =
        Sample { settlements: ended.settlements, losses: ended.losses, counted_losses, ..Sample::default() };
    Ok(sample.breakers(policy).halt_new_envelopes)
}

pub fn open(breaker: &str) -> Refusal {
    Refusal::new(Code::DependencyUnavailable, format!("credit circuit breaker: {breaker}"))
}

type Look = (CreditPolicy, bool, Timestamp);

async fn look(tx: &mut Tx, (policy, lenient, now): &Look) -> Result<(Sample, credit_sums::Open), Stop> {
    Ok((sample(tx, policy, *lenient, *now).await?, credit_sums::open_all(tx, *now).await?))
}

impl Runtime {
    pub(crate) async fn credit_sample(&self) -> Result<(Sample, credit_sums::Open), Stop> {
        let lenient = self.config.trust_mode == TrustMode::Lenient;
        self.store.read("credit.health", (self.config.credit.clone(), lenient, self.now()), look).await
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
            Sample { settlements, losses, counted_losses: losses, ..Sample::default() }
                .breakers(&policy)
                .halt_new_envelopes
        };
        assert!(!trips(4, 4) && !trips(6, 3) && trips(6, 4));
        let pays = |payments, failures| {
            Sample { payments, failures, counted_failures: failures, ..Sample::default() }
                .breakers(&policy)
                .halt_large_settlements
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

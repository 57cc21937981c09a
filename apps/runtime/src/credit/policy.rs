//! Decides what an operator allows of credit (credit-fx §2.3). Values out of range are taken as the nearest one; what
//! cannot be read stops the start.

use std::str::FromStr;

use oa_contract::wire::credit::CreditPolicyView;

use crate::{ConfigError, config::Lookup};

#[derive(Clone, Debug, PartialEq)]
pub struct CreditPolicy {
    pub max_sats_per_envelope: u64,
    pub max_outstanding_envelopes_per_agent: u64,
    pub max_offer_ttl_seconds: u64,
    pub underwriting_history_days: u64,
    pub underwriting_base_sats: u64,
    pub underwriting_k: f64,
    pub underwriting_default_penalty_multiplier: f64,
    pub min_fee_bps: u32,
    pub max_fee_bps: u32,
    pub fee_risk_scaler: f64,
    pub health_window_seconds: u64,
    pub health_settlement_sample_limit: u64,
    pub health_ln_pay_sample_limit: u64,
    pub circuit_breaker_min_sample: u64,
    pub loss_rate_halt_threshold: f64,
    pub ln_failure_rate_halt_threshold: f64,
    pub ln_failure_large_settlement_cap_sats: u64,
    /// What is drawn is due so long after the envelope's own time.
    pub repayment_seconds: u64,
}

impl Default for CreditPolicy {
    fn default() -> Self {
        CreditPolicy {
            max_sats_per_envelope: 100_000,
            max_outstanding_envelopes_per_agent: 3,
            max_offer_ttl_seconds: 3_600,
            underwriting_history_days: 30,
            underwriting_base_sats: 2_000,
            underwriting_k: 150.0,
            underwriting_default_penalty_multiplier: 2.0,
            min_fee_bps: 50,
            max_fee_bps: 2_000,
            fee_risk_scaler: 400.0,
            health_window_seconds: 21_600,
            health_settlement_sample_limit: 200,
            health_ln_pay_sample_limit: 200,
            circuit_breaker_min_sample: 5,
            loss_rate_halt_threshold: 0.5,
            ln_failure_rate_halt_threshold: 0.5,
            ln_failure_large_settlement_cap_sats: 5_000,
            repayment_seconds: 86_400,
        }
    }
}

/// No sum of a few of these leaves what a column keeps.
const MOST_SATS: u64 = 2_100_000_000_000_000;

impl CreditPolicy {
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let default = CreditPolicy::default();
        let count = |variable, default: u64, least: u64, most: u64| {
            parsed::<u64>(lookup, variable, default).map(|number| number.clamp(least, most))
        };
        let bps =
            |variable, default: u32| parsed::<u32>(lookup, variable, default).map(|bps| bps.min(100_000));
        let real = |variable, default: f64, most: f64| {
            let number = parsed::<f64>(lookup, variable, default)?;
            match number.is_nan() {
                true => Err(wrong(variable, "not a number")),
                false => Ok(number.clamp(0.0, most)),
            }
        };
        let min_fee_bps = bps("RUNTIME_CREDIT_MIN_FEE_BPS", default.min_fee_bps)?;
        Ok(CreditPolicy {
            max_sats_per_envelope: count(
                "RUNTIME_CREDIT_MAX_SATS_PER_ENVELOPE",
                default.max_sats_per_envelope,
                1,
                MOST_SATS,
            )?,
            max_outstanding_envelopes_per_agent: count(
                "RUNTIME_CREDIT_MAX_OUTSTANDING_ENVELOPES_PER_AGENT",
                default.max_outstanding_envelopes_per_agent,
                1,
                100_000,
            )?,
            max_offer_ttl_seconds: count(
                "RUNTIME_CREDIT_MAX_OFFER_TTL_SECONDS",
                default.max_offer_ttl_seconds,
                1,
                86_400,
            )?,
            underwriting_history_days: count(
                "RUNTIME_CREDIT_UNDERWRITING_HISTORY_DAYS",
                default.underwriting_history_days,
                1,
                365,
            )?,
            underwriting_base_sats: count(
                "RUNTIME_CREDIT_UNDERWRITING_BASE_SATS",
                default.underwriting_base_sats,
                1,
                MOST_SATS,
            )?,
            underwriting_k: real("RUNTIME_CREDIT_UNDERWRITING_K", default.underwriting_k, 10_000.0)?,
            underwriting_default_penalty_multiplier: real(
                "RUNTIME_CREDIT_UNDERWRITING_DEFAULT_PENALTY_MULTIPLIER",
                default.underwriting_default_penalty_multiplier,
                100.0,
            )?,
            min_fee_bps,
            // At least the lowest fee in every case.
            max_fee_bps: bps("RUNTIME_CREDIT_MAX_FEE_BPS", default.max_fee_bps)?.max(min_fee_bps),
            fee_risk_scaler: real("RUNTIME_CREDIT_FEE_RISK_SCALER", default.fee_risk_scaler, 100_000.0)?,
            health_window_seconds: count(
                "RUNTIME_CREDIT_HEALTH_WINDOW_SECONDS",
                default.health_window_seconds,
                60,
                604_800,
            )?,
            health_settlement_sample_limit: count(
                "RUNTIME_CREDIT_HEALTH_SETTLEMENT_SAMPLE_LIMIT",
                default.health_settlement_sample_limit,
                1,
                100_000,
            )?,
            health_ln_pay_sample_limit: count(
                "RUNTIME_CREDIT_HEALTH_LN_PAY_SAMPLE_LIMIT",
                default.health_ln_pay_sample_limit,
                1,
                100_000,
            )?,
            circuit_breaker_min_sample: count(
                "RUNTIME_CREDIT_CIRCUIT_BREAKER_MIN_SAMPLE",
                default.circuit_breaker_min_sample,
                1,
                100_000,
            )?,
            loss_rate_halt_threshold: real(
                "RUNTIME_CREDIT_LOSS_RATE_HALT_THRESHOLD",
                default.loss_rate_halt_threshold,
                1.0,
            )?,
            ln_failure_rate_halt_threshold: real(
                "RUNTIME_CREDIT_LN_FAILURE_RATE_HALT_THRESHOLD",
                default.ln_failure_rate_halt_threshold,
                1.0,
            )?,
            ln_failure_large_settlement_cap_sats: count(
                "RUNTIME_CREDIT_LN_FAILURE_LARGE_SETTLEMENT_CAP_SATS",
                default.ln_failure_large_settlement_cap_sats,
                1,
                MOST_SATS,
            )?,
            repayment_seconds: count(
                "RUNTIME_CREDIT_REPAYMENT_SECONDS",
                default.repayment_seconds,
                1,
                31_536_000,
            )?,
        })
    }

    pub fn view(&self) -> CreditPolicyView {
        CreditPolicyView {
            max_sats_per_envelope: self.max_sats_per_envelope,
            max_outstanding_envelopes_per_agent: self.max_outstanding_envelopes_per_agent,
            max_offer_ttl_seconds: self.max_offer_ttl_seconds,
            underwriting_history_days: self.underwriting_history_days,
            underwriting_base_sats: self.underwriting_base_sats,
            underwriting_k: self.underwriting_k,
            underwriting_default_penalty_multiplier: self.underwriting_default_penalty_multiplier,
            min_fee_bps: self.min_fee_bps,
            max_fee_bps: self.max_fee_bps,
            fee_risk_scaler: self.fee_risk_scaler,
            health_window_seconds: self.health_window_seconds,
            health_settlement_sample_limit: self.health_settlement_sample_limit,
            health_ln_pay_sample_limit: self.health_ln_pay_sample_limit,
            circuit_breaker_min_sample: self.circuit_breaker_min_sample,
            loss_rate_halt_threshold: self.loss_rate_halt_threshold,
            ln_failure_rate_halt_threshold: self.ln_failure_rate_halt_threshold,
            ln_failure_large_settlement_cap_sats: self.ln_failure_large_settlement_cap_sats,
        }
    }
}

fn wrong(variable: &'static str, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError { variable, problem: format!("invalid credit policy config: {variable}: {problem}") }
}

/// Not trimmed.
fn parsed<T: FromStr>(lookup: Lookup<'_>, variable: &'static str, default: T) -> Result<T, ConfigError>
where
    T::Err: std::fmt::Display,
{
    match lookup(variable) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|error| wrong(variable, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<CreditPolicy, ConfigError> {
        CreditPolicy::read(&|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_specified_defaults() {
        assert_eq!(read(&[]), Ok(CreditPolicy::default()));
    }

    #[test]
    fn what_is_out_of_range_is_the_nearest_and_what_cannot_be_read_stops_the_start() {
        let policy = read(&[
            ("RUNTIME_CREDIT_MAX_SATS_PER_ENVELOPE", "0"),
            ("RUNTIME_CREDIT_MAX_OFFER_TTL_SECONDS", "999999"),
            ("RUNTIME_CREDIT_UNDERWRITING_K", "-1"),
            ("RUNTIME_CREDIT_MIN_FEE_BPS", "3000"),
        ]);
        let policy = policy.expect("a policy");
        assert_eq!((policy.max_sats_per_envelope, policy.max_offer_ttl_seconds), (1, 86_400));
        assert_eq!(policy.underwriting_k.to_bits(), 0.0_f64.to_bits());
        assert_eq!((policy.min_fee_bps, policy.max_fee_bps), (3_000, 3_000), "never above the highest");
        for (name, value) in [("RUNTIME_CREDIT_MIN_FEE_BPS", " 50"), ("RUNTIME_CREDIT_UNDERWRITING_K", "NaN")]
        {
            let error = read(&[(name, value)]).expect_err("refused").to_string();
            assert!(error.contains(&format!("invalid credit policy config: {name}: ")), "{error}");
        }
    }
}

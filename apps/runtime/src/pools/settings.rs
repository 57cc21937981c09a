//! Decides what an operator can set about pools (liquidity §2). Numbers out of their range are moved into it.

use oa_contract::wire::pools::PayoutRail;

use crate::config::{ConfigError, Lookup, boolean, parsed};

/// When leaving is made harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub stress_liability_bps: u32,
    pub halt_liability_bps: u32,
    pub stress_connected_bps: u32,
    pub halt_connected_bps: u32,
    pub stress_outbound_bps: u32,
    pub halt_outbound_bps: u32,
    pub stress_extra_delay_hours: u32,
    pub halt_extra_delay_hours: u32,
    pub stress_cap_per_tick: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    pub withdraw_delay_hours: u32,
    /// Turns the throttle on.
    pub lp_mode_enabled: bool,
    pub thresholds: Thresholds,
    pub snapshots_enabled: bool,
    /// The first is the primary pool.
    pub snapshot_pools: Vec<String>,
    pub snapshot_interval_seconds: u64,
    pub snapshot_jitter_seconds: u64,
    pub snapshot_retention: u32,
    /// Whether the background pays what is due.
    pub executor_enabled: bool,
    pub executor_interval_seconds: u64,
    /// Whether a withdrawal needs its shares when it is requested; follows from the trust mode when not set.
    pub require_shares: Option<bool>,
    /// Whether a deposit is confirmed by the wallet only; follows from the trust mode when not set.
    pub verified_deposits: Option<bool>,
    /// What the way of a payout may cost, in parts of 10000 of it; at least five sats, on-chain a thousand. Nothing
    /// when this is nothing.
    pub payout_fee_bps: u32,
    /// How deep a deposit on-chain has to lie.
    pub deposit_confirmations: u32,
}

impl Default for PoolSettings {
    fn default() -> Self {
        PoolSettings {
            withdraw_delay_hours: 24,
            lp_mode_enabled: false,
            thresholds: Thresholds {
                stress_liability_bps: 2_500,
                halt_liability_bps: 5_000,
                stress_connected_bps: 7_500,
                halt_connected_bps: 4_000,
                stress_outbound_bps: 10_000,
                halt_outbound_bps: 5_000,
                stress_extra_delay_hours: 24,
                halt_extra_delay_hours: 72,
                stress_cap_per_tick: 5,
            },
            snapshots_enabled: true,
            snapshot_pools: vec!["llp-main".into()],
            snapshot_interval_seconds: 60,
            snapshot_jitter_seconds: 5,
            snapshot_retention: 120,
            executor_enabled: true,
            executor_interval_seconds: 15,
            require_shares: None,
            verified_deposits: None,
            payout_fee_bps: 50,
            deposit_confirmations: 3,
        }
    }
}

impl PoolSettings {
    pub(crate) fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let usual = PoolSettings::default();
        let number = |name, default: u64, least: u64, most: u64| {
            parsed(lookup, name, default).map(|number: u64| number.clamp(least, most))
        };
        let small = |name, default: u32, least: u64, most: u64| {
            let number = number(name, default.into(), least, most)?;
            u32::try_from(number).map_err(|error| ConfigError { variable: name, problem: error.to_string() })
        };
        let usual_throttle = usual.thresholds;
        let mut thresholds = Thresholds {
            stress_liability_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_LIABILITY_RATIO_BPS",
                usual_throttle.stress_liability_bps,
                1,
                10_000,
            )?,
            halt_liability_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_LIABILITY_RATIO_BPS",
                usual_throttle.halt_liability_bps,
                1,
                10_000,
            )?,
            stress_connected_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_CONNECTED_RATIO_BPS",
                usual_throttle.stress_connected_bps,
                0,
                10_000,
            )?,
            halt_connected_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_CONNECTED_RATIO_BPS",
                usual_throttle.halt_connected_bps,
                0,
                10_000,
            )?,
            stress_outbound_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_OUTBOUND_COVERAGE_BPS",
                usual_throttle.stress_outbound_bps,
                0,
                50_000,
            )?,
            halt_outbound_bps: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_OUTBOUND_COVERAGE_BPS",
                usual_throttle.halt_outbound_bps,
                0,
                50_000,
            )?,
            stress_extra_delay_hours: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_EXTRA_DELAY_HOURS",
                usual_throttle.stress_extra_delay_hours,
                0,
                336,
            )?,
            halt_extra_delay_hours: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_HALT_EXTRA_DELAY_HOURS",
                usual_throttle.halt_extra_delay_hours,
                0,
                336,
            )?,
            stress_cap_per_tick: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_STRESS_EXECUTION_CAP_PER_TICK",
                usual_throttle.stress_cap_per_tick,
                1,
                5_000,
            )?,
        };
        // A halt is never milder than the stress before it.
        thresholds.halt_liability_bps = thresholds.halt_liability_bps.max(thresholds.stress_liability_bps);
        thresholds.halt_connected_bps = thresholds.halt_connected_bps.min(thresholds.stress_connected_bps);
        thresholds.halt_outbound_bps = thresholds.halt_outbound_bps.min(thresholds.stress_outbound_bps);
        thresholds.halt_extra_delay_hours =
            thresholds.halt_extra_delay_hours.max(thresholds.stress_extra_delay_hours);
        let pools = lookup("RUNTIME_LIQUIDITY_POOL_SNAPSHOT_POOL_IDS").map(|text| {
            text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect()
        });
        Ok(PoolSettings {
            withdraw_delay_hours: small(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_DELAY_HOURS",
                usual.withdraw_delay_hours,
                0,
                168,
            )?,
            lp_mode_enabled: boolean(
                lookup,
                "RUNTIME_LIQUIDITY_POOL_LP_MODE_ENABLED",
                usual.lp_mode_enabled,
            )?,
            thresholds,
            snapshots_enabled: boolean(lookup, "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_WORKER_ENABLED", true)?,
            snapshot_pools: pools.unwrap_or(usual.snapshot_pools),
            snapshot_interval_seconds: number(
                "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_INTERVAL_SECONDS",
                usual.snapshot_interval_seconds,
                1,
                3_600,
            )?,
            snapshot_jitter_seconds: number(
                "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_JITTER_SECONDS",
                usual.snapshot_jitter_seconds,
                0,
                60,
            )?,
            snapshot_retention: small(
                "RUNTIME_LIQUIDITY_POOL_SNAPSHOT_RETENTION_COUNT",
                usual.snapshot_retention,
                1,
                10_000,
            )?,
            executor_enabled: boolean(lookup, "RUNTIME_LIQUIDITY_POOL_WITHDRAW_EXECUTOR_ENABLED", true)?,
            executor_interval_seconds: number(
                "RUNTIME_LIQUIDITY_POOL_WITHDRAW_EXECUTOR_INTERVAL_SECONDS",
                usual.executor_interval_seconds,
                1,
                3_600,
            )?,
            require_shares: switch(lookup, "RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES")?,
            verified_deposits: confirm_mode(lookup)?,
            payout_fee_bps: small("RUNTIME_LIQUIDITY_POOL_PAYOUT_FEE_BPS", usual.payout_fee_bps, 0, 1_000)?,
            deposit_confirmations: small(
                "RUNTIME_POOL_DEPOSIT_CONFIRMATIONS",
                usual.deposit_confirmations,
                1,
                100,
            )?,
        })
    }

    /// Strictly a variable may ask for more than the trust mode does, and never for less: one that would make a mint of
    /// every credential is no setting.
    pub(crate) fn fit(&self, strict: bool) -> Result<(), ConfigError> {
        let loose = |variable, value| {
            let problem = format!("{value} is only for RUNTIME_TRUST_MODE=lenient");
            Err(ConfigError { variable, problem })
        };
        match (self.verified_deposits, self.require_shares) {
            (Some(false), _) if strict => loose("RUNTIME_POOL_DEPOSIT_CONFIRM_MODE", "manual"),
            (_, Some(false)) if strict => loose("RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES", "false"),
            _ => Ok(()),
        }
    }

    /// What the way of a payout of so many sats may cost. On-chain the size of a transaction counts, and signers have
    /// looked at each.
    pub fn payout_fee_sats(&self, rail: PayoutRail, sats: u64) -> u64 {
        if self.payout_fee_bps == 0 {
            return 0;
        }
        let share = u128::from(sats) * u128::from(self.payout_fee_bps) / 10_000;
        let least = match rail {
            PayoutRail::Lightning => 5,
            PayoutRail::Onchain => 1_000,
        };
        u64::try_from(share).unwrap_or(u64::MAX).max(least)
    }
}

fn switch(lookup: Lookup<'_>, variable: &'static str) -> Result<Option<bool>, ConfigError> {
    match lookup(variable) {
        None => Ok(None),
        Some(_) => boolean(lookup, variable, false).map(Some),
    }
}

fn confirm_mode(lookup: Lookup<'_>) -> Result<Option<bool>, ConfigError> {
    const VARIABLE: &str = "RUNTIME_POOL_DEPOSIT_CONFIRM_MODE";
    let Some(text) = lookup(VARIABLE) else { return Ok(None) };
    match text.trim().to_ascii_lowercase().as_str() {
        "manual" => Ok(Some(false)),
        "verified" => Ok(Some(true)),
        _ => Err(ConfigError {
            variable: VARIABLE,
            problem: format!("{text:?} is neither manual nor verified"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<PoolSettings, ConfigError> {
        PoolSettings::read(&|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_specified_defaults() {
        assert_eq!(read(&[]), Ok(PoolSettings::default()));
    }

    #[test]
    fn numbers_out_of_range_are_moved_into_it() {
        let settings = read(&[
            ("RUNTIME_LIQUIDITY_POOL_WITHDRAW_DELAY_HOURS", "9999"),
            ("RUNTIME_LIQUIDITY_POOL_SNAPSHOT_INTERVAL_SECONDS", "0"),
            ("RUNTIME_LIQUIDITY_POOL_SNAPSHOT_POOL_IDS", " a ,, b"),
        ])
        .expect("settings");
        assert_eq!((settings.withdraw_delay_hours, settings.snapshot_interval_seconds), (168, 1));
        assert_eq!(settings.snapshot_pools, ["a", "b"]);
    }

    #[test]
    fn a_halt_is_never_milder_than_stress() {
        let name = |which: &str| format!("RUNTIME_LIQUIDITY_POOL_WITHDRAW_THROTTLE_{which}");
        let set = [
            (name("STRESS_LIABILITY_RATIO_BPS"), "8000"),
            (name("HALT_LIABILITY_RATIO_BPS"), "10"),
            (name("HALT_CONNECTED_RATIO_BPS"), "9000"),
            (name("HALT_OUTBOUND_COVERAGE_BPS"), "50000"),
            (name("HALT_EXTRA_DELAY_HOURS"), "1"),
        ];
        let pairs: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let Thresholds {
            halt_liability_bps,
            halt_connected_bps,
            halt_outbound_bps,
            halt_extra_delay_hours,
            ..
        } = read(&pairs).expect("settings").thresholds;
        assert_eq!((halt_liability_bps, halt_connected_bps), (8_000, 7_500));
        assert_eq!((halt_outbound_bps, halt_extra_delay_hours), (10_000, 24));
    }

    #[test]
    fn a_value_that_does_not_parse_names_its_variable() {
        for name in [
            "RUNTIME_LIQUIDITY_POOL_WITHDRAW_DELAY_HOURS",
            "RUNTIME_LIQUIDITY_POOL_LP_MODE_ENABLED",
            "RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES",
            "RUNTIME_POOL_DEPOSIT_CONFIRM_MODE",
        ] {
            assert_eq!(read(&[(name, "maybe")]).expect_err(name).variable, name);
        }
    }

    #[test]
    fn strictly_nobody_is_believed_because_of_a_variable() {
        for (name, value) in
            [("RUNTIME_POOL_DEPOSIT_CONFIRM_MODE", "manual"), ("RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES", "no")]
        {
            let settings = read(&[(name, value)]).expect("settings");
            assert_eq!(settings.fit(true).expect_err(name).variable, name);
            assert_eq!(settings.fit(false), Ok(()));
        }
        let tighter = [
            ("RUNTIME_POOL_DEPOSIT_CONFIRM_MODE", "verified"),
            ("RUNTIME_LIQUIDITY_POOL_REQUIRE_SHARES", "yes"),
        ];
        assert_eq!(read(&tighter).expect("settings").fit(true), Ok(()));
    }

    #[test]
    fn the_way_of_a_payout_may_cost_a_little() {
        let settings = PoolSettings::default();
        let fee = |rail, sats| settings.payout_fee_sats(rail, sats);
        assert_eq!((fee(PayoutRail::Lightning, 1), fee(PayoutRail::Lightning, 100_000)), (5, 500));
        assert_eq!(fee(PayoutRail::Onchain, 500), 1_000);
        let free = PoolSettings { payout_fee_bps: 0, ..settings };
        assert_eq!(free.payout_fee_sats(PayoutRail::Onchain, 500), 0);
    }
}

//! Decides what an operator allows of exchanges (credit-fx §9), and in which unit each asset is counted.

use std::str::FromStr;

use oa_contract::{Asset, Refusal};

use crate::{ConfigError, config::Lookup};

/// What is allowed. Values out of range are taken as the nearest one; what cannot be read stops the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FxPolicy {
    /// Sold and bought asset.
    pub pairs: Vec<(String, String)>,
    pub max_spread_bps: u32,
    pub max_fee_bps: u32,
    pub min_quote_ttl_seconds: u32,
    pub max_quote_ttl_seconds: u32,
    pub min_quote_validity_seconds: u32,
    pub weight_cost_bps: u32,
    pub weight_latency_bps: u32,
    pub weight_reliability_bps: u32,
    /// A reference rate that is older counts no more.
    pub reference_max_age_seconds: u32,
    /// Fewer sources than these are no reference.
    pub reference_quorum: u32,
}

impl Default for FxPolicy {
    fn default() -> Self {
        let pair = |sell: &str, buy: &str| (sell.to_owned(), buy.to_owned());
        FxPolicy {
            pairs: vec![pair("USD", "BTC_LN"), pair("USDT", "BTC_LN"), pair("BTC_LN", "USD")],
            max_spread_bps: 300,
            max_fee_bps: 150,
            min_quote_ttl_seconds: 5,
            max_quote_ttl_seconds: 300,
            min_quote_validity_seconds: 10,
            weight_cost_bps: 4_000,
            weight_latency_bps: 2_000,
            weight_reliability_bps: 4_000,
            reference_max_age_seconds: 300,
            reference_quorum: 1,
        }
    }
}

/// The one unit of each asset whose amounts can be compared and added up.
const UNITS: [(&str, &str); 3] = [("USD", "cents"), ("USDT", "cents"), ("BTC_LN", "msats")];

/// The unit in which an asset is counted, where that is fixed.
pub fn unit_of(asset: &str) -> Option<&'static str> {
    UNITS.iter().find(|(known, _)| *known == asset).map(|(_, unit)| *unit)
}

/// What the ledger calls an asset in a unit: no two units of one asset are the same thing there, so an amount is
/// never taken for one of another unit.
pub fn ledger_asset(asset: &str, unit: &str) -> Option<Asset> {
    match (asset, unit) {
        ("BTC_LN", "msats") => Some(Asset::msats()),
        // The counts of nested budgets and the shares of pools are assets of the ledger's own.
        _ if asset.is_empty() || unit.is_empty() || asset.contains('.') || unit.contains('.') => None,
        _ => Asset::new(format!("{asset}.{unit}")),
    }
}

/// Refuses a unit that is not the asset's, or that the ledger cannot name.
pub fn unit_fits(member: &str, asset: &str, unit: &str, lenient: bool) -> Result<(), Refusal> {
    if let Some(known) = unit_of(asset).filter(|known| *known != unit && !lenient) {
        return Err(Refusal::invalid(format!("{member} must be {known} for {asset}")));
    }
    match ledger_asset(asset, unit) {
        Some(_) => Ok(()),
        None => Err(Refusal::invalid(format!(
            "{member} must be a plain name, without blanks, dots and slashes, and so must the asset"
        ))),
    }
}

const PAIRS: &str = "RUNTIME_HYDRA_FX_ALLOWED_PAIRS";
const COST: &str = "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_COST_BPS";

impl FxPolicy {
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let default = FxPolicy::default();
        let number = |variable, default: u32, least: u32, most: u32| {
            parsed::<u32>(lookup, variable, default).map(|number| number.clamp(least, most))
        };
        let least_ttl =
            number("RUNTIME_HYDRA_FX_MIN_QUOTE_TTL_SECONDS", default.min_quote_ttl_seconds, 1, 3_600)?;
        let most_ttl =
            number("RUNTIME_HYDRA_FX_MAX_QUOTE_TTL_SECONDS", default.max_quote_ttl_seconds, 1, 86_400)?;
        let weight = |variable, default| number(variable, default, 0, 10_000);
        let policy = FxPolicy {
            pairs: match lookup(PAIRS) {
                Some(text) => pairs(&text)?,
                None => default.pairs,
            },
            max_spread_bps: number("RUNTIME_HYDRA_FX_MAX_SPREAD_BPS", default.max_spread_bps, 1, 10_000)?,
            max_fee_bps: number("RUNTIME_HYDRA_FX_MAX_FEE_BPS", default.max_fee_bps, 0, 10_000)?,
            min_quote_ttl_seconds: least_ttl,
            max_quote_ttl_seconds: most_ttl.max(least_ttl),
            min_quote_validity_seconds: number(
                "RUNTIME_HYDRA_FX_MIN_QUOTE_VALIDITY_SECONDS",
                default.min_quote_validity_seconds,
                0,
                3_600,
            )?,
            weight_cost_bps: weight(COST, default.weight_cost_bps)?,
            weight_latency_bps: weight(
                "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_LATENCY_BPS",
                default.weight_latency_bps,
            )?,
            weight_reliability_bps: weight(
                "RUNTIME_HYDRA_FX_SELECTION_WEIGHT_RELIABILITY_BPS",
                default.weight_reliability_bps,
            )?,
            reference_max_age_seconds: number(
                "RUNTIME_HYDRA_FX_REFERENCE_MAX_AGE_SECONDS",
                default.reference_max_age_seconds,
                1,
                86_400,
            )?,
            reference_quorum: number("RUNTIME_HYDRA_FX_REFERENCE_QUORUM", default.reference_quorum, 1, 16)?,
        };
        match policy.weight_cost_bps | policy.weight_latency_bps | policy.weight_reliability_bps {
            0 => Err(wrong(COST, "at least one selection weight must be greater than zero")),
            _ => Ok(policy),
        }
    }

    pub fn allows(&self, sell: &str, buy: &str) -> bool {
        self.pairs.iter().any(|(one, other)| one == sell && other == buy)
    }
}

fn wrong(variable: &'static str, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError { variable, problem: format!("invalid hydra fx policy config: {problem}") }
}

fn parsed<T: FromStr>(lookup: Lookup<'_>, variable: &'static str, default: T) -> Result<T, ConfigError>
where
    T::Err: std::fmt::Display,
{
    match lookup(variable) {
        None => Ok(default),
        Some(text) => text.trim().parse().map_err(|error| wrong(variable, format!("{text:?}: {error}"))),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    text.split(',')
        .map(|token| {
            let sides = token.split_once("->").or_else(|| token.split_once(':'));
            let sides = sides.map(|(sell, buy)| (sell.trim().to_uppercase(), buy.trim().to_uppercase()));
            let whole = sides.filter(|(sell, buy)| {
                let plain = |side: &str| !side.is_empty() && !side.contains([':', '>']);
                plain(sell) && plain(buy)
            });
            whole.ok_or_else(|| wrong(PAIRS, format!("invalid pair format: {}", token.trim())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<FxPolicy, ConfigError> {
        FxPolicy::read(&|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_specified_defaults() {
        assert_eq!(read(&[]), Ok(FxPolicy::default()));
    }

    #[test]
    fn pairs_are_read_in_both_forms_and_upper_cased() {
        let policy = read(&[(PAIRS, " usd -> btc_ln ,eur:usd")]).expect("a policy");
        assert!(policy.allows("USD", "BTC_LN") && policy.allows("EUR", "USD"));
        assert!(!policy.allows("USD", "EUR"));
        for malformed in ["", "USD", "USD->", "->USD", "USD->EUR,", "USD->EUR->GBP"] {
            let error = read(&[(PAIRS, malformed)]).expect_err(malformed).to_string();
            assert!(error.contains("invalid hydra fx policy config: invalid pair format"), "{error}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_the_nearest_and_what_cannot_be_read_stops_the_start() {
        let policy = read(&[
            ("RUNTIME_HYDRA_FX_MAX_SPREAD_BPS", "0"),
            ("RUNTIME_HYDRA_FX_MIN_QUOTE_TTL_SECONDS", "600"),
            ("RUNTIME_HYDRA_FX_MAX_QUOTE_TTL_SECONDS", "60"),
        ]);
        let policy = policy.expect("a policy");
        assert_eq!((policy.max_spread_bps, policy.max_quote_ttl_seconds), (1, 600));
        let error = read(&[("RUNTIME_HYDRA_FX_MAX_FEE_BPS", "many")]).expect_err("refused").to_string();
        assert!(error.contains("RUNTIME_HYDRA_FX_MAX_FEE_BPS"), "{error}");
        let none = ["COST", "LATENCY", "RELIABILITY"]
            .map(|which| format!("RUNTIME_HYDRA_FX_SELECTION_WEIGHT_{which}_BPS"));
        let none: Vec<_> = none.iter().map(|name| (name.as_str(), "0")).collect();
        let error = read(&none).expect_err("refused").to_string();
        assert!(error.contains("at least one selection weight must be greater than zero"), "{error}");
    }

    #[test]
    fn a_unit_is_never_taken_for_another() {
        assert_eq!(ledger_asset("BTC_LN", "msats"), Some(Asset::msats()));
        assert_ne!(ledger_asset("BTC_LN", "sats"), ledger_asset("BTC_LN", "msats"));
        assert_eq!(ledger_asset("USD", "cents"), Asset::new("USD.cents"));
        // `msats.budget` and the like are nobody's currency.
        for (asset, unit) in [("USD", "a b"), ("USD", ""), ("MSATS", "x.y"), ("A/B", "x"), ("A.B", "x")] {
            assert_eq!(ledger_asset(asset, unit), None, "{asset} {unit}");
        }
        let said = |lenient| unit_fits("sell.unit", "BTC_LN", "cents", lenient);
        assert_eq!(said(false).expect_err("refused").message, "sell.unit must be msats for BTC_LN");
        assert_eq!(said(true), Ok(()));
    }
}

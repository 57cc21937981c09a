//! Decides what the reference rate of a moment is: the median of the sources that are young enough, and only when
//! there are enough of them. Whole numbers throughout: a rate is so many units for so many.

use std::cmp::Ordering;

use oa_contract::{
    Stop,
    wire::fx::{FxMoney, FxRate, FxReference},
};
use oa_store::{
    Tx,
    tables::fx::{self as table, RateRow},
};

use super::policy::FxPolicy;

/// Sources of a pair.
pub const MOST_SOURCES: u32 = 16;
/// A clock may be ahead of ours by so much.
const AHEAD_SECONDS: u64 = 60;

/// What the exchange comes to, beside what the sources say.
pub async fn rate(
    tx: &mut Tx,
    policy: &FxPolicy,
    sell: &FxMoney,
    buy: &FxMoney,
    now_unix: u64,
) -> Result<FxRate, Stop> {
    let told = table::rates(tx, &sell.asset, &buy.asset, MOST_SOURCES).await?;
    Ok(beside(sell, buy, reference(policy, &told, sell, &buy.unit, now_unix)))
}

/// An exchange and a reference, compared.
pub fn beside(sell: &FxMoney, buy: &FxMoney, reference: Option<FxReference>) -> FxRate {
    let spread = reference.as_ref().and_then(|reference| spread_bps(reference.buy_amount, buy.amount));
    FxRate { sell: sell.clone(), buy: buy.clone(), reference, spread_from_reference_bps: spread }
}

/// The median of those that can be compared; of an even number, the lower one.
pub fn reference(
    policy: &FxPolicy,
    told: &[RateRow],
    sell: &FxMoney,
    buy_unit: &str,
    now_unix: u64,
) -> Option<FxReference> {
    let oldest = now_unix.saturating_sub(policy.reference_max_age_seconds.into());
    let mut fresh: Vec<&RateRow> = told
        .iter()
        .filter(|rate| rate.sell_unit == sell.unit && rate.buy_unit == buy_unit)
        .filter(|rate| rate.observed_at_unix >= oldest)
        .filter(|rate| rate.observed_at_unix <= now_unix.saturating_add(AHEAD_SECONDS))
        .collect();
    if fresh.is_empty() || fresh.len() < policy.reference_quorum as usize {
        return None;
    }
    fresh.sort_by(|a, b| dearness(a, b).then_with(|| a.source.cmp(&b.source)));
    let middle = fresh[(fresh.len() - 1) / 2];
    let bought = u128::from(sell.amount) * u128::from(middle.buy_units) / u128::from(middle.sell_units);
    let mut sources: Vec<&str> = fresh.iter().map(|rate| rate.source.as_str()).collect();
    sources.sort_unstable();
    Some(FxReference {
        source: match sources.as_slice() {
            [one] => (*one).to_owned(),
            many => format!("median of {}", many.join(", ")),
        },
        sell_units: middle.sell_units,
        buy_units: middle.buy_units,
        observed_at_unix: middle.observed_at_unix,
        buy_amount: u64::try_from(bought).ok()?,
    })
}

/// By how much is bought for one unit: fractions are compared by multiplying across.
fn dearness(a: &RateRow, b: &RateRow) -> Ordering {
    let across = |a: &RateRow, b: &RateRow| u128::from(a.buy_units) * u128::from(b.sell_units);
    across(a, b).cmp(&across(b, a))
}

/// How much less than the reference is bought, rounded down; below zero it is more.
pub fn spread_bps(reference: u64, bought: u64) -> Option<i64> {
    if reference == 0 {
        return None;
    }
    let less = (i128::from(reference) - i128::from(bought)) * 10_000;
    i64::try_from(less.div_euclid(i128::from(reference))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_772_366_400;

    fn told(source: &str, buy_units: u64, age: u64) -> RateRow {
        RateRow {
            sell_asset: "USD".into(),
            buy_asset: "BTC_LN".into(),
            source: source.into(),
            sell_unit: "cents".into(),
            sell_units: 100,
            buy_unit: "msats".into(),
            buy_units,
            observed_at_unix: NOW - age,
        }
    }

    fn sell() -> FxMoney {
        FxMoney { asset: "USD".into(), amount: 100_000, unit: "cents".into() }
    }

    fn said(policy: &FxPolicy, rates: &[RateRow]) -> Option<(String, u64)> {
        reference(policy, rates, &sell(), "msats", NOW).map(|found| (found.source, found.buy_amount))
    }

    #[test]
    fn the_median_of_those_that_are_young_enough_is_the_reference() {
        let policy = FxPolicy::default();
        assert_eq!(said(&policy, &[]), None);
        assert_eq!(said(&policy, &[told("a", 2_600, 300)]), Some(("a".into(), 2_600_000)));
        assert_eq!(said(&policy, &[told("a", 2_600, 301)]), None);
        let three = [told("c", 2_700, 0), told("a", 2_500, 9), told("b", 9_999, 1)];
        assert_eq!(said(&policy, &three), Some(("median of a, b, c".into(), 2_700_000)));
        let strict = FxPolicy { reference_quorum: 2, ..policy };
        assert_eq!(said(&strict, &[told("a", 2_600, 0), told("b", 2_600, 999)]), None);
    }

    #[test]
    fn a_rate_of_another_unit_is_no_reference() {
        let other = RateRow { buy_unit: "sats".into(), ..told("a", 3, 0) };
        assert_eq!(said(&FxPolicy::default(), &[other]), None);
    }

    #[test]
    fn the_spread_is_what_the_reference_buys_more() {
        assert_eq!(spread_bps(2_600_000, 2_500_000), Some(384));
        assert_eq!(spread_bps(2_500_000, 2_600_000), Some(-400));
        assert_eq!(spread_bps(1_000, 1_000), Some(0));
        assert_eq!(spread_bps(0, 1), None);
        assert_eq!(spread_bps(1, u64::MAX), None);
    }
}

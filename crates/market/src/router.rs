//! Decides between offers of several markets (marketplace §8): how they are brought into one form, ranked, and
//! what the decision hashes to.

use std::cmp::Reverse;

use oa_contract::{
    Msats, Refusal, canonical,
    wire::marketplace::{RouterCandidate, RouterOffer},
};
use serde_json::{Value, json};

pub const DECISION_SCHEMA: &str = "openagents.marketplace.router_decision.v1";
/// Our own market, and whatever does not say which it is.
pub const OURS: &str = "openagents";
const MOST_RELIABLE_BPS: u32 = 10_000;
/// What an unknown latency counts as where it is weighed.
const USUAL_LATENCY_MS: u64 = 250;
/// More candidates than this are no choice but a load.
pub const MOST_CANDIDATES: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    LowestTotalCost,
    Balanced,
    ReliabilityFirst,
}

impl Policy {
    pub fn parse(said: Option<&str>) -> Result<Self, Refusal> {
        match said.map(str::trim).unwrap_or_default() {
            "" | "lowest_total_cost_v1" => Ok(Policy::LowestTotalCost),
            "balanced_v1" => Ok(Policy::Balanced),
            "reliability_first_v1" => Ok(Policy::ReliabilityFirst),
            other => Err(Refusal::invalid(format!("unsupported policy: {other}"))),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Policy::LowestTotalCost => "lowest_total_cost_v1",
            Policy::Balanced => "balanced_v1",
            Policy::ReliabilityFirst => "reliability_first_v1",
        }
    }
}

/// Trimmed; blank is absent.
pub fn said(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Not none, and not more than can be weighed.
pub fn countable(count: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::invalid("candidates must not be empty")),
        1..=MOST_CANDIDATES => Ok(()),
        _ => Err(Refusal::invalid(format!("candidates must be at most {MOST_CANDIDATES}"))),
    }
}

/// Who offers at what price; refuses what is no offer, in this order.
pub fn identified(marketplace_id: &str, provider_id: &str, total_price_msats: u64) -> Result<(), Refusal> {
    let named = [("marketplace_id", marketplace_id), ("provider_id", provider_id)];
    if let Some((member, _)) = named.into_iter().find(|(_, text)| text.trim().is_empty()) {
        return Err(Refusal::invalid(format!("candidate.{member} must not be empty")));
    }
    match total_price_msats {
        0 => Err(Refusal::invalid("candidate.total_price_msats must be greater than zero")),
        more if Msats::new(more).is_none() => {
            Err(Refusal::invalid("candidate.total_price_msats is more than there will ever be"))
        }
        _ => Ok(()),
    }
}

pub fn normalise(offer: RouterOffer) -> Result<RouterCandidate, Refusal> {
    identified(&offer.marketplace_id, &offer.provider_id, offer.total_price_msats)?;
    if let Some(currency) = said(offer.currency).filter(|currency| currency != "msats") {
        return Err(Refusal::invalid(format!("unsupported currency: {currency}")));
    }
    Ok(RouterCandidate {
        marketplace_id: offer.marketplace_id.trim().to_owned(),
        provider_id: offer.provider_id.trim().to_owned(),
        provider_worker_id: said(offer.provider_worker_id),
        total_price_msats: offer.total_price_msats,
        latency_ms: offer.latency_ms.filter(|latency| *latency > 0),
        reliability_bps: offer.reliability_bps.unwrap_or(0).min(MOST_RELIABLE_BPS),
        constraints: offer.constraints.filter(|constraints| !constraints.is_null()),
        quote_id: said(offer.quote_id),
        quote_sha256: said(offer.quote_sha256),
    })
}

/// Best first; equals stay as they came.
pub fn rank(policy: Policy, candidates: &mut [RouterCandidate]) {
    let gap = |one: &RouterCandidate| MOST_RELIABLE_BPS.saturating_sub(one.reliability_bps);
    let names = |one: &RouterCandidate| (one.marketplace_id.clone(), one.provider_id.clone());
    // An absent latency is longer than any.
    let latency = |one: &RouterCandidate| Reverse(one.latency_ms.map(Reverse));
    match policy {
        Policy::LowestTotalCost => {
            candidates.sort_by_cached_key(|one| (one.total_price_msats, latency(one), gap(one), names(one)))
        }
        Policy::ReliabilityFirst => {
            candidates.sort_by_cached_key(|one| (gap(one), one.total_price_msats, latency(one), names(one)))
        }
        Policy::Balanced => candidates.sort_by_cached_key(|one| {
            let waits = one.latency_ms.unwrap_or(USUAL_LATENCY_MS);
            let score =
                u128::from(one.total_price_msats) + u128::from(waits) + u128::from(gap(one) / 100 * 20);
            (score, one.total_price_msats, waits, gap(one), names(one))
        }),
    }
}

/// The hash of a decision (§2.1); `ranked` holds at least one.
pub fn decision_hash(
    policy: Policy,
    run_id: &str,
    capability: &str,
    objective_hash: Option<&str>,
    ranked: &[RouterCandidate],
) -> String {
    canonical::canonical_hash(&json!({
        "schema": DECISION_SCHEMA,
        "policy": policy.name(),
        "run_id": run_id,
        "capability": capability,
        "objective_hash": objective_hash,
        "selected": ranked.first().map_or(Value::Null, |selected| json!(selected)),
        "candidates": ranked,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, price: u64, latency_ms: Option<u64>, reliability_bps: u32) -> RouterOffer {
        RouterOffer {
            marketplace_id: format!("market-{name}"),
            provider_id: format!("provider-{name}"),
            provider_worker_id: None,
            total_price_msats: price,
            currency: None,
            latency_ms,
            reliability_bps: Some(reliability_bps),
            constraints: None,
            quote_id: None,
            quote_sha256: Some(" ".into()),
        }
    }

    fn ranked(policy: Policy, offers: impl IntoIterator<Item = RouterOffer>) -> Vec<RouterCandidate> {
        let mut candidates: Vec<_> =
            offers.into_iter().map(|one| normalise(one).expect("a candidate")).collect();
        rank(policy, &mut candidates);
        candidates
    }

    fn best(policy: Policy, offers: impl IntoIterator<Item = RouterOffer>) -> String {
        ranked(policy, offers)[0].provider_id.clone()
    }

    #[test]
    fn the_decision_of_the_specification_has_its_hash() {
        let b = RouterOffer { quote_id: Some("quote-b".into()), ..offer("b", 1100, Some(200), 8000) };
        let ranked = ranked(Policy::LowestTotalCost, [offer("a", 1200, None, 9000), b]);
        let run = "0193a000-0000-7000-8000-000000000001";
        let hash = decision_hash(Policy::LowestTotalCost, run, "oa.sandbox_run.v1", None, &ranked);
        assert_eq!(hash, "c121a7e45059ecded8805ab6d54c9bdb818f066f0bc60a525a70ae492b184b2d");
    }

    #[test]
    fn each_policy_has_its_order() {
        let slow = || offer("slow", 1000, Some(800), 9000);
        let fast = || offer("fast", 1300, Some(50), 9900);
        assert_eq!(best(Policy::LowestTotalCost, [fast(), slow()]), "provider-slow");
        assert_eq!(best(Policy::ReliabilityFirst, [slow(), fast()]), "provider-fast");
        assert_eq!(best(Policy::Balanced, [slow(), fast()]), "provider-fast");
        let unknown = || offer("a", 1000, None, 9000);
        assert_eq!(best(Policy::LowestTotalCost, [unknown(), slow()]), "provider-slow", "unknown is longest");
        assert_eq!(best(Policy::Balanced, [slow(), unknown()]), "provider-a", "unknown is usual");
        assert_eq!(
            best(Policy::LowestTotalCost, [offer("b", 1, None, 1), offer("a", 1, None, 1)]),
            "provider-a"
        );
    }

    #[test]
    fn what_is_no_offer_is_refused_in_order() {
        let said = |change: fn(&mut RouterOffer)| {
            let mut one = offer("a", 1, None, 1);
            change(&mut one);
            normalise(one).expect_err("refused").message
        };
        assert_eq!(
            said(|one| (one.marketplace_id, one.provider_id) = (" ".into(), String::new())),
            "candidate.marketplace_id must not be empty"
        );
        assert_eq!(said(|one| one.provider_id = " ".into()), "candidate.provider_id must not be empty");
        assert_eq!(
            said(|one| one.total_price_msats = 0),
            "candidate.total_price_msats must be greater than zero"
        );
        assert_eq!(said(|one| one.currency = Some(" usd ".into())), "unsupported currency: usd");
        assert!(said(|one| one.total_price_msats = u64::MAX).contains("more than there will ever be"));
        let odd =
            RouterOffer { latency_ms: Some(0), reliability_bps: Some(20_000), ..offer("a", 1, None, 1) };
        let odd = normalise(odd).expect("a candidate");
        assert_eq!((odd.latency_ms, odd.reliability_bps, odd.quote_sha256), (None, 10_000, None));
        assert!(Policy::parse(Some("dearest")).is_err());
        assert_eq!(Policy::parse(Some("  ")), Ok(Policy::LowestTotalCost));
    }
}

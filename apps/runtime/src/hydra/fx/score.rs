//! Decides which quote is the best (credit-fx §9.4), from what was read and a moment, and what a choice and a
//! settlement are called. No store and no clock: the same quotes in any order give the same choice.

use std::{cmp::Reverse, collections::BTreeMap};

use oa_contract::{
    Fault, canonical,
    wire::fx::{
        FxExecution, FxFactors, FxQuote, FxQuoteStatus, FxReference, FxSelectionReceipt, FxSettlementStatus,
        Rfq,
    },
};
use oa_store::tables::fx_sums::Maker;
use serde_json::{Value, json};

use super::{policy::FxPolicy, rate};

const SELECT_REPLY: &str = "openagents.hydra.fx_select_response.v1";
const SELECT_RECEIPT: &str = "openagents.hydra.fx_selection_receipt.v1";
pub const SETTLE_RECEIPT: &str = "openagents.hydra.fx_settlement_receipt.v1";

/// How quotes are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// What providers say of themselves, weighed. Kept to the bit for clients that know it.
    ReputationFirstV0,
    /// Who gives most; what we have seen of a provider counts among equals.
    BestPriceV1,
}

impl Ranking {
    pub const fn name(self) -> &'static str {
        match self {
            Ranking::ReputationFirstV0 => "reputation_first_v0",
            Ranking::BestPriceV1 => "best_price_v1",
        }
    }

    /// Blank is the oldest.
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim() {
            "" => Some(Ranking::ReputationFirstV0),
            name => {
                [Ranking::ReputationFirstV0, Ranking::BestPriceV1].into_iter().find(|it| it.name() == name)
            }
        }
    }
}

/// A quote and what it was ranked by.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub quote: FxQuote,
    pub all_in_cost_bps: u64,
    pub reliability_gap_bps: u64,
    pub expiry_safety_seconds: u64,
    pub weighted_score: u64,
}

/// What is ranked with.
pub struct Scales<'a> {
    pub ranking: Ranking,
    pub policy: &'a FxPolicy,
    pub rfq: &'a Rfq,
    pub now_unix: u64,
    /// What was seen of each provider, for `best_price_v1`.
    pub makers: &'a BTreeMap<String, Maker>,
    pub reference: Option<&'a FxReference>,
}

/// Quotes that could be settled for a while, and that keep within what was asked for.
pub fn eligible(quote: &FxQuote, rfq: &Rfq, policy: &FxPolicy, now_unix: u64) -> bool {
    let left = quote.valid_until_unix.saturating_sub(now_unix);
    matches!(quote.status, FxQuoteStatus::Active | FxQuoteStatus::Selected)
        && left > 0
        && left >= u64::from(policy.min_quote_validity_seconds)
        && quote.spread_bps <= rfq.max_spread_bps
        && quote.fee_bps <= rfq.max_fee_bps
        && quote.latency_ms <= rfq.max_latency_ms
        && quote.buy.amount >= rfq.min_buy_amount
}

/// Best first. The quotes are eligible, and in one unit.
pub fn rank(scales: &Scales<'_>, quotes: Vec<FxQuote>) -> Vec<Candidate> {
    let best = quotes.iter().map(|quote| quote.buy.amount).max().unwrap_or_default();
    let mut ranked: Vec<_> = quotes.into_iter().map(|quote| candidate(scales, quote, best)).collect();
    ranked.sort_by(|a, b| order(a).cmp(&order(b)));
    ranked
}

/// Whatever decides between two, in its order; smaller is better.
fn order(it: &Candidate) -> (u64, u64, u32, u64, Reverse<u64>, &str, &str) {
    let quote = &it.quote;
    (
        it.weighted_score,
        it.all_in_cost_bps,
        quote.latency_ms,
        it.reliability_gap_bps,
        Reverse(it.expiry_safety_seconds),
        &quote.provider_id,
        &quote.quote_id,
    )
}

fn candidate(scales: &Scales<'_>, quote: FxQuote, best: u64) -> Candidate {
    let expiry_safety_seconds = quote.valid_until_unix.saturating_sub(scales.now_unix);
    match scales.ranking {
        Ranking::ReputationFirstV0 => {
            let all_in_cost_bps = u64::from(quote.spread_bps) + u64::from(quote.fee_bps);
            let reliability_gap_bps = 10_000 - u64::from(quote.reliability_bps.min(10_000));
            let (policy, ttl) = (scales.policy, u64::from(scales.rfq.quote_ttl_seconds));
            let weighted_score = all_in_cost_bps
                .saturating_mul(policy.weight_cost_bps.into())
                .saturating_add(u64::from(quote.latency_ms).saturating_mul(policy.weight_latency_bps.into()))
                .saturating_add(reliability_gap_bps.saturating_mul(policy.weight_reliability_bps.into()))
                .saturating_add((ttl - expiry_safety_seconds.min(ttl)).saturating_mul(10));
            Candidate { quote, all_in_cost_bps, reliability_gap_bps, expiry_safety_seconds, weighted_score }
        }
        Ranking::BestPriceV1 => {
            let benchmark = scales.reference.map_or(best, |reference| reference.buy_amount);
            let cost = rate::spread_bps(benchmark, quote.buy.amount).unwrap_or_default().max(0);
            Candidate {
                all_in_cost_bps: cost.unsigned_abs(),
                reliability_gap_bps: 10_000 - seen_bps(scales.makers.get(&quote.provider_id)),
                expiry_safety_seconds,
                weighted_score: best - quote.buy.amount,
                quote,
            }
        }
    }
}

/// How often a provider's quotes were still good when they were settled. Nothing seen is the middle; what the
/// requester did not allow says nothing.
fn seen_bps(maker: Option<&Maker>) -> u64 {
    let (released, late) = maker.map_or((0, 0), |maker| (maker.released, maker.late));
    let share = (u128::from(released) + 1) * 10_000 / (u128::from(released) + u128::from(late) + 2);
    u64::try_from(share).unwrap_or(10_000)
}

/// A choice, as it is answered and proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub selected: FxQuote,
    pub candidates: Vec<FxQuote>,
    pub factors: FxFactors,
    pub decision_sha256: String,
    pub receipt: FxSelectionReceipt,
}

/// None where there is nobody to choose.
pub fn decide(scales: &Scales<'_>, ranked: &[Candidate]) -> Result<Option<Decided>, Fault> {
    let Some(winner) = ranked.first() else { return Ok(None) };
    let policy = scales.ranking.name();
    let factors = FxFactors {
        expected_spread_bps: winner.quote.spread_bps,
        expected_fee_bps: winner.quote.fee_bps,
        confidence: confidence(scales, winner),
        policy_notes: notes(scales, winner, ranked.len()),
    };
    let listed: Vec<Value> = ranked
        .iter()
        .map(|it| {
            json!({
                "quote": it.quote,
                "all_in_cost_bps": it.all_in_cost_bps,
                "expiry_safety_seconds": it.expiry_safety_seconds,
                "reliability_gap_bps": it.reliability_gap_bps,
                "weighted_score": it.weighted_score,
            })
        })
        .collect();
    let decision_sha256 = canonical::canonical_hash(&json!({
        "schema": SELECT_REPLY,
        "rfq_id": scales.rfq.rfq_id,
        "policy": policy,
        "selected_quote_id": winner.quote.quote_id,
        "candidates": listed,
        "factors": factors,
        "decided_at_unix": scales.now_unix,
    }));
    let selected = enriched(scales.ranking, winner);
    let digest = canonical::canonical_hash(&json!({
        "schema": SELECT_RECEIPT,
        "decision_sha256": decision_sha256,
        "rfq_id": scales.rfq.rfq_id,
        "policy": policy,
        "selected": selected,
        "factors": factors,
        "decided_at_unix": scales.now_unix,
    }));
    Ok(Some(Decided {
        candidates: ranked.iter().map(|it| enriched(scales.ranking, it)).collect(),
        receipt: FxSelectionReceipt {
            receipt_schema: SELECT_RECEIPT.into(),
            receipt_id: format!("hydrafxsel_{}", &digest[..16]),
            canonical_json_sha256: digest,
        },
        selected,
        factors,
        decision_sha256,
    }))
}

/// The quote with what it was ranked by; a member of that name that the provider wrote is replaced.
fn enriched(ranking: Ranking, it: &Candidate) -> FxQuote {
    let mut quote = it.quote.clone();
    if let Value::Object(members) = &mut quote.constraints {
        members.insert(
            "selection".into(),
            json!({
                "policy": ranking.name(),
                "all_in_cost_bps": it.all_in_cost_bps,
                "reliability_gap_bps": it.reliability_gap_bps,
                "expiry_safety_seconds": it.expiry_safety_seconds,
                "weighted_score": it.weighted_score,
            }),
        );
    }
    quote
}

/// Added from left to right; told, never reckoned with.
fn confidence(scales: &Scales<'_>, winner: &Candidate) -> f64 {
    let reliability = (10_000 - winner.reliability_gap_bps) as f64 / 10_000.0;
    let cost = 1.0 - winner.all_in_cost_bps.min(10_000) as f64 / 10_000.0;
    let ttl = scales.rfq.quote_ttl_seconds;
    let expiry = match ttl {
        0 => 0.0,
        ttl => (winner.expiry_safety_seconds as f64 / f64::from(ttl)).clamp(0.0, 1.0),
    };
    (reliability * 0.55 + cost * 0.30 + expiry * 0.15).clamp(0.0, 1.0)
}

fn notes(scales: &Scales<'_>, winner: &Candidate, count: usize) -> Vec<String> {
    let mut notes = vec![format!("policy={}", scales.ranking.name()), format!("candidate_count={count}")];
    match scales.ranking {
        Ranking::ReputationFirstV0 => notes.extend([
            format!("weights.cost_bps={}", scales.policy.weight_cost_bps),
            format!("weights.latency_bps={}", scales.policy.weight_latency_bps),
            format!("weights.reliability_bps={}", scales.policy.weight_reliability_bps),
        ]),
        Ranking::BestPriceV1 => notes.extend(match scales.reference {
            Some(reference) => vec![
                format!("reference.source={}", reference.source),
                format!("reference.buy_amount={}", reference.buy_amount),
            ],
            None => vec!["reference.source=none".into()],
        }),
    }
    notes.extend([
        format!("min_quote_validity_seconds={}", scales.policy.min_quote_validity_seconds),
        format!("selected.quote_id={}", winner.quote.quote_id),
        format!("selected.weighted_score={}", winner.weighted_score),
    ]);
    notes
}

/// How good the choice is, measured by what it buys among those that are counted in its unit.
pub fn execution(ranked: &[Candidate], reference: Option<FxReference>) -> Option<FxExecution> {
    let chosen = &ranked.first()?.quote;
    let alike = || ranked.iter().map(|it| &it.quote).filter(|quote| quote.buy.unit == chosen.buy.unit);
    let best = alike().max_by_key(|quote| (quote.buy.amount, Reverse(&quote.quote_id)))?;
    let shortfall = best.buy.amount - chosen.buy.amount;
    let bps = rate::spread_bps(best.buy.amount, chosen.buy.amount).unwrap_or_default();
    Some(FxExecution {
        schema: "openagents.hydra.fx_execution_report.v1".into(),
        rate: rate::beside(&chosen.sell, &chosen.buy, reference),
        candidate_count: ranked.len() as u64,
        best_quote_id: best.quote_id.clone(),
        best_buy_amount: best.buy.amount,
        shortfall_amount: shortfall,
        shortfall_bps: bps.unsigned_abs(),
        price_rank: 1 + alike().filter(|quote| quote.buy.amount > chosen.buy.amount).count() as u64,
    })
}

/// Of the quote as it is kept: normalised, clamped, active.
pub fn quote_sha256(quote: &FxQuote) -> String {
    canonical::canonical_hash(&json!({
        "quote_id": quote.quote_id,
        "rfq_id": quote.rfq_id,
        "provider_id": quote.provider_id,
        "sell": quote.sell,
        "buy": quote.buy,
        "spread_bps": quote.spread_bps,
        "fee_bps": quote.fee_bps,
        "latency_ms": quote.latency_ms,
        "reliability_bps": quote.reliability_bps,
        "valid_until_unix": quote.valid_until_unix,
        "status": quote.status,
        "constraints": quote.constraints,
    }))
}

pub fn job_hash(rfq_id: &str, quote_id: &str) -> String {
    let digest = canonical::canonical_hash(&json!({"rfq_id": rfq_id, "quote_id": quote_id}));
    format!("fxjob_{}", &digest[..24])
}

/// What a settlement has to name; clients reckon it themselves.
pub fn reservation_id(job_hash: &str) -> String {
    format!("rsv_{}", job_hash.get(..16).unwrap_or(job_hash))
}

pub fn settlement_id(
    quote: &FxQuote,
    reservation_id: &str,
    policy_context: &Value,
    status: FxSettlementStatus,
) -> String {
    let digest = canonical::canonical_hash(&json!({
        "rfq_id": quote.rfq_id,
        "quote_id": quote.quote_id,
        "reservation_id": reservation_id,
        "policy_context": policy_context,
        "settlement_status": status.name(),
    }));
    format!("fxstl_{}", &digest[..16])
}

/// What the digest of a settlement's receipt is taken over.
pub fn settlement_preimage(
    quote: &FxQuote,
    settlement_id: &str,
    policy_context: &Value,
    status: FxSettlementStatus,
    withheld_reason: Option<&str>,
    settled_at_unix: u64,
) -> Value {
    let job_hash = job_hash(&quote.rfq_id, &quote.quote_id);
    json!({
        "schema": SETTLE_RECEIPT,
        "settlement_id": settlement_id,
        "rfq_id": quote.rfq_id,
        "quote_id": quote.quote_id,
        "provider_id": quote.provider_id,
        "sell": quote.sell,
        "buy": quote.buy,
        "spread_bps": quote.spread_bps,
        "fee_bps": quote.fee_bps,
        "settled_at_unix": settled_at_unix,
        "reservation_id": reservation_id(&job_hash),
        "treasury_job_hash": job_hash,
        "policy_context": policy_context,
        "settlement_status": status.name(),
        "withheld_reason": withheld_reason,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hydra::fx::tests::{NOW, golden_quote, golden_rfq};

    fn reference(buy_amount: u64) -> FxReference {
        FxReference {
            source: "desk".into(),
            sell_units: 100_000,
            buy_units: buy_amount,
            observed_at_unix: NOW,
            buy_amount,
        }
    }

    fn decided(ranking: Ranking, quotes: Vec<FxQuote>, told: Option<&FxReference>) -> Decided {
        let (policy, rfq, makers) = (FxPolicy::default(), golden_rfq(), BTreeMap::new());
        let scales =
            Scales { ranking, policy: &policy, rfq: &rfq, now_unix: NOW, makers: &makers, reference: told };
        let ranked = rank(&scales, quotes);
        decide(&scales, &ranked).expect("decided").expect("a choice")
    }

    fn quote(id: &str, provider: &str, buy: u64) -> FxQuote {
        let mut quote = FxQuote { quote_id: id.into(), provider_id: provider.into(), ..golden_quote() };
        quote.buy.amount = buy;
        quote.quote_sha256 = quote_sha256(&quote);
        quote
    }

    #[test]
    fn the_choice_of_the_vectors_has_its_digests() {
        let decided = decided(Ranking::ReputationFirstV0, vec![golden_quote()], None);
        assert_eq!(
            decided.decision_sha256,
            "b15a3218db24aabb4244d625fcdbfcd44c43e3d6ebab0b827e18e5c91b1fb423"
        );
        assert_eq!(
            decided.receipt.canonical_json_sha256,
            "53308600d8cb6d639045845a2eb36558d22caec11b75aa78768312bfc1332bcc"
        );
        assert_eq!(decided.receipt.receipt_id, "hydrafxsel_53308600d8cb6d63");
        assert_eq!(decided.factors.confidence.to_bits(), 0.9423_f64.to_bits());
        let selection = &decided.selected.constraints["selection"];
        assert_eq!(
            serde_json::to_string(selection).expect("JSON"),
            r#"{"policy":"reputation_first_v0","all_in_cost_bps":90,"reliability_gap_bps":1000,"expiry_safety_seconds":30,"weighted_score":6360000}"#
        );
    }

    #[test]
    fn the_settlement_of_the_vectors_has_its_digests() {
        let quote = golden_quote();
        let job = job_hash(&quote.rfq_id, &quote.quote_id);
        assert_eq!(job, "fxjob_1969c37a250df54d75e1403c");
        assert_eq!(
            canonical::canonical_hash(&json!({"rfq_id": quote.rfq_id, "quote_id": quote.quote_id})),
            "1969c37a250df54d75e1403c0d9ab018333b1aa4d52434328d1df9c710b580a7"
        );
        assert_eq!(reservation_id(&job), "rsv_fxjob_1969c37a25");
        let context = json!({"release_allowed": true});
        let id = settlement_id(&quote, &reservation_id(&job), &context, FxSettlementStatus::Released);
        assert_eq!(id, "fxstl_7259c0f4e15e411a");
        let named = json!({"rfq_id": quote.rfq_id, "quote_id": quote.quote_id,
            "reservation_id": reservation_id(&job), "policy_context": context, "settlement_status": "released"});
        assert_eq!(
            canonical::canonical_hash(&named),
            "7259c0f4e15e411adc386b4cf125ac02a545db767edd0c3f52fec1eb5ae1062a"
        );
        let preimage =
            settlement_preimage(&quote, &id, &context, FxSettlementStatus::Released, None, 1_772_366_405);
        assert_eq!(
            canonical::canonical_hash(&preimage),
            "ed248d42d7402d8ed706d184b2d5e4a10893116989f87b37a386e856e30f4109"
        );
    }

    #[test]
    fn the_oldest_policy_does_not_look_at_the_price_and_the_newer_one_at_nothing_else_first() {
        let (dear, cheap) = (quote("a", "provider-a", 2_000_000), quote("b", "provider-b", 2_600_000));
        let both = || vec![dear.clone(), cheap.clone()];
        assert_eq!(decided(Ranking::ReputationFirstV0, both(), None).selected.quote_id, "a");
        let best = decided(Ranking::BestPriceV1, both(), Some(&reference(2_700_000)));
        assert_eq!(best.selected.quote_id, "b");
        let selection = &best.candidates[1].constraints["selection"];
        assert_eq!(
            (&selection["weighted_score"], &selection["all_in_cost_bps"]),
            (&json!(600_000), &json!(2592))
        );
        assert!(best.factors.policy_notes.contains(&"reference.source=desk".to_owned()));
    }

    #[test]
    fn among_equal_prices_what_was_seen_of_a_provider_counts() {
        let mut makers = BTreeMap::new();
        makers.insert("provider-b".to_owned(), Maker { released: 8, late: 0, refused: 3 });
        let (policy, rfq) = (FxPolicy::default(), golden_rfq());
        let scales = Scales {
            ranking: Ranking::BestPriceV1,
            policy: &policy,
            rfq: &rfq,
            now_unix: NOW,
            makers: &makers,
            reference: None,
        };
        let boaster = FxQuote { reliability_bps: 10_000, ..quote("a", "provider-a", 2_500_000) };
        let ranked = rank(&scales, vec![boaster, quote("b", "provider-b", 2_500_000)]);
        assert_eq!(ranked[0].quote.quote_id, "b");
        assert_eq!((ranked[0].reliability_gap_bps, ranked[1].reliability_gap_bps), (1_000, 5_000));
    }

    #[test]
    fn the_report_says_what_the_best_price_would_have_bought() {
        let (policy, rfq, makers) = (FxPolicy::default(), golden_rfq(), BTreeMap::new());
        let scales = Scales {
            ranking: Ranking::ReputationFirstV0,
            policy: &policy,
            rfq: &rfq,
            now_unix: NOW,
            makers: &makers,
            reference: None,
        };
        let quotes = vec![quote("a", "provider-a", 2_000_000), quote("b", "provider-b", 2_500_000)];
        let report = execution(&rank(&scales, quotes), Some(reference(2_600_000))).expect("a report");
        assert_eq!((report.shortfall_amount, report.shortfall_bps, report.price_rank), (500_000, 2_000, 2));
        assert_eq!(
            (report.best_quote_id.as_str(), report.rate.spread_from_reference_bps),
            ("b", Some(2_307))
        );
    }

    #[test]
    fn a_quote_is_eligible_while_it_can_still_be_settled() {
        let (rfq, policy) = (golden_rfq(), FxPolicy::default());
        let at = |now| eligible(&golden_quote(), &rfq, &policy, now);
        assert!(at(NOW) && at(NOW + 20) && !at(NOW + 21));
        let loose = FxPolicy { min_quote_validity_seconds: 0, ..policy };
        assert!(!eligible(&golden_quote(), &rfq, &loose, NOW + 30), "its time is over");
        for status in [FxQuoteStatus::Expired, FxQuoteStatus::Withdrawn] {
            assert!(!eligible(&FxQuote { status, ..golden_quote() }, &rfq, &loose, NOW));
        }
    }

    fn any_quotes() -> impl Strategy<Value = Vec<FxQuote>> {
        let one = (0..4_u8, 0..=100_u32, 0..=60_u32, 0..=5_000_u32, 0..20_000_u32, 2_000_000..2_000_004_u64);
        prop::collection::vec(one, 1..12).prop_map(|all| {
            let all = all.into_iter().enumerate();
            all.map(|(n, (provider, spread, fee, latency, reliability, buy))| FxQuote {
                spread_bps: spread,
                fee_bps: fee,
                latency_ms: latency,
                reliability_bps: reliability,
                ..quote(&format!("q{n}"), &format!("p{provider}"), buy)
            })
            .collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_in_which_quotes_came_never_changes_the_choice(
            quotes in any_quotes(),
            turn in 0..12_usize,
            price in any::<bool>(),
        ) {
            let ranking = if price { Ranking::BestPriceV1 } else { Ranking::ReputationFirstV0 };
            let mut turned = quotes.clone();
            turned.rotate_left(turn % quotes.len());
            turned.reverse();
            let one = decided(ranking, quotes.clone(), None);
            prop_assert_eq!(&one, &decided(ranking, turned, None));
            let best = quotes.iter().map(|quote| quote.buy.amount).max();
            prop_assert!(!price || Some(one.selected.buy.amount) == best, "nobody gives more");
        }
    }
}

//! Decides how good a route is (marketplace §9): which candidates the risks leave, their order, and the factors
//! that are told with the choice.

use oa_contract::{
    Refusal, canonical,
    refusal::Stop,
    wire::{
        hydra::{RoutingFactors, RoutingReceipt, ScoreOffer, ScoredCandidate},
        jobs::short,
        marketplace::RouterCandidate,
    },
};
use serde_json::{Map, Value, json};

use crate::router::{self, Policy, identified, said};

pub const RESPONSE_SCHEMA: &str = "openagents.hydra.routing_score_response.v1";
pub const RECEIPT_SCHEMA: &str = "openagents.hydra.routing_decision_receipt.v1";
const DIRECT: &str = "route-direct";
const CEP: &str = "route-cep";

/// What is risky at the moment (§9.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Risk {
    pub direct_disabled: bool,
    pub halt_new_envelopes: bool,
    pub degraded: bool,
    pub reasons: Vec<String>,
}

/// What is scored; blanks are filled in already.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    pub policy: Policy,
    /// Hyphenated, lower-case.
    pub run_id: &'a str,
    pub marketplace_id: &'a str,
    pub capability: &'a str,
    pub objective_hash: Option<&'a str>,
    pub decided_at_unix: u64,
}

/// The choice, and what it hashes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub decision_sha256: String,
    /// Best first; never empty.
    pub candidates: Vec<ScoredCandidate>,
    pub selected: ScoredCandidate,
    pub factors: RoutingFactors,
    pub receipt: RoutingReceipt,
}

/// Ranks what the risks leave and says how good the best of it is.
pub fn decide(scored: &Scored<'_>, offers: Vec<ScoreOffer>, risk: &Risk) -> Result<Decision, Stop> {
    let mut notes: Vec<String> = risk.reasons.clone();
    let mut candidates = Vec::new();
    for offer in offers {
        identified(&offer.marketplace_id, &offer.provider_id, offer.total_price_msats)?;
        let provider = offer.provider_id.trim();
        if provider == DIRECT && risk.direct_disabled {
            notes.push("direct_candidate_filtered_by_risk".into());
        } else if provider == CEP && risk.halt_new_envelopes {
            notes.push("cep_candidate_filtered_by_breaker".into());
        } else {
            candidates.push(normalise(offer)?);
        }
    }
    router::rank(scored.policy, &mut candidates);
    let Some(selected) = candidates.first() else {
        return Err(Refusal::conflict("hydra risk breakers denied all routing candidates").into());
    };
    let factors = factors(scored.policy, &candidates, selected, risk, notes);
    let decision_sha256 = canonical::canonical_hash(&json!({
        "schema": RESPONSE_SCHEMA,
        "policy": scored.policy.name(),
        "run_id": scored.run_id,
        "marketplace_id": scored.marketplace_id,
        "capability": scored.capability,
        "objective_hash": scored.objective_hash,
        "selected": selected,
        "candidates": candidates,
        "factors": factors,
        "decided_at_unix": scored.decided_at_unix,
    }));
    let selected = wire(selected);
    let receipt_sha256 = canonical::canonical_hash(&json!({
        "schema": RECEIPT_SCHEMA,
        "decision_sha256": decision_sha256,
        "run_id": scored.run_id,
        "marketplace_id": scored.marketplace_id,
        "capability": scored.capability,
        "policy": scored.policy.name(),
        "objective_hash": scored.objective_hash,
        "decided_at_unix": scored.decided_at_unix,
        "selected": selected,
        "factors": factors,
    }));
    let receipt = RoutingReceipt {
        receipt_schema: RECEIPT_SCHEMA.into(),
        receipt_id: format!("hydrart_{}", short(&receipt_sha256)),
        canonical_json_sha256: receipt_sha256,
    };
    let candidates = candidates.iter().map(wire).collect();
    Ok(Decision { decision_sha256, candidates, selected, factors, receipt })
}

fn normalise(offer: ScoreOffer) -> Result<RouterCandidate, Refusal> {
    let constraints = match offer.constraints {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object,
        Some(_) => return Err(Refusal::invalid("candidate.constraints must be an object")),
    };
    Ok(RouterCandidate {
        marketplace_id: offer.marketplace_id.trim().to_owned(),
        provider_id: offer.provider_id.trim().to_owned(),
        provider_worker_id: said(offer.provider_worker_id),
        total_price_msats: offer.total_price_msats,
        latency_ms: offer.latency_ms.filter(|latency| *latency > 0),
        reliability_bps: offer.reliability_bps.min(10_000),
        constraints: Some(constraints),
        quote_id: said(offer.quote_id),
        quote_sha256: said(offer.quote_sha256),
    })
}

fn wire(candidate: &RouterCandidate) -> ScoredCandidate {
    ScoredCandidate {
        marketplace_id: candidate.marketplace_id.clone(),
        provider_id: candidate.provider_id.clone(),
        provider_worker_id: candidate.provider_worker_id.clone(),
        total_price_msats: candidate.total_price_msats,
        latency_ms: candidate.latency_ms,
        reliability_bps: candidate.reliability_bps,
        constraints: candidate.constraints.clone().unwrap_or_else(|| Value::Object(Map::new())),
        quote_id: candidate.quote_id.clone(),
        quote_sha256: candidate.quote_sha256.clone(),
    }
}

/// §9.4, in this association: every result is compared bit by bit.
fn factors(
    policy: Policy,
    candidates: &[RouterCandidate],
    selected: &RouterCandidate,
    risk: &Risk,
    mut notes: Vec<String>,
) -> RoutingFactors {
    let unit = |x: f64| x.clamp(0.0, 1.0);
    let prices = || candidates.iter().map(|one| one.total_price_msats);
    let (min, max) = (prices().min().unwrap_or(0), prices().max().unwrap_or(0));
    let price = selected.total_price_msats;
    let price_position = match max == min {
        true => 1.0,
        false => unit(1.0 - (price - min) as f64 / (max - min) as f64),
    };
    let reliability = f64::from(selected.reliability_bps) / 10_000.0;
    let latency_score = unit(1.0 - selected.latency_ms.unwrap_or(250) as f64 / 1_000.0);
    let breadth = (candidates.len() as f64 / 8.0).clamp(0.15, 1.0);
    let mut confidence = unit(((reliability * 0.60) + (price_position * 0.20)) + (latency_score * 0.20));
    let mut liquidity = unit((reliability * 0.60) + (breadth * 0.40));
    if risk.degraded {
        confidence = unit(confidence * 0.75);
        liquidity = unit(liquidity * 0.80);
        notes.push("routing_confidence_degraded".into());
    }
    notes.sort_unstable();
    notes.dedup();
    let mut policy_notes = vec![
        format!("policy:{}", policy.name()),
        format!("candidate_count:{}", candidates.len()),
        format!("selected_reliability_bps:{}", selected.reliability_bps),
    ];
    policy_notes.extend(notes);
    RoutingFactors {
        expected_fee_msats: (price / 50).max(1),
        confidence,
        liquidity_score: liquidity,
        policy_notes,
    }
}

/// A decision as a document, for the log.
pub fn receipt_document(scored: &Scored<'_>, decision: &Decision) -> Value {
    json!({
        "schema": RECEIPT_SCHEMA,
        "receipt_id": decision.receipt.receipt_id,
        "decision_sha256": decision.decision_sha256,
        "run_id": scored.run_id,
        "marketplace_id": scored.marketplace_id,
        "capability": scored.capability,
        "policy": scored.policy.name(),
        "objective_hash": scored.objective_hash,
        "decided_at_unix": scored.decided_at_unix,
        "selected": decision.selected,
        "factors": decision.factors,
        "canonical_json_sha256": decision.receipt.canonical_json_sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored() -> Scored<'static> {
        Scored {
            policy: Policy::LowestTotalCost,
            run_id: "0193a000-0000-7000-8000-000000000001",
            marketplace_id: "openagents",
            capability: "oa.sandbox_run.v1",
            objective_hash: Some("sha256:objective"),
            decided_at_unix: 1_700_000_111,
        }
    }

    fn offer(name: &str, price: u64, latency_ms: u64, reliability_bps: u32, region: &str) -> ScoreOffer {
        ScoreOffer {
            marketplace_id: format!("market-{name}"),
            provider_id: format!("provider-{name}"),
            provider_worker_id: None,
            total_price_msats: price,
            latency_ms: Some(latency_ms),
            reliability_bps,
            constraints: Some(json!({"region": region})),
            quote_id: Some(format!("quote-{name}")),
            quote_sha256: Some(format!("sha256:quote-{name}")),
        }
    }

    fn golden() -> Vec<ScoreOffer> {
        vec![offer("a", 1200, 50, 9100, "us-central1"), offer("b", 900, 120, 8700, "us-east1")]
    }

    fn no_wallet() -> Risk {
        Risk {
            direct_disabled: true,
            degraded: true,
            reasons: vec!["direct_liquidity_unavailable".into()],
            ..Risk::default()
        }
    }

    #[test]
    fn the_decisions_of_the_specification_have_their_hashes() {
        let decided = decide(&scored(), golden(), &no_wallet()).expect("decided");
        assert_eq!(decided.selected.provider_id, "provider-b");
        assert_eq!(
            decided.decision_sha256,
            "466bde9c84c2d38f5c08d2bf95a600a43b6649a57c3fb8ad4718c98bf0a4c14e"
        );
        assert_eq!(
            decided.receipt.canonical_json_sha256,
            "aa6888b512e233abadbc598f2f4698f0d5712e014bc8a09a4614a55935f159ea"
        );
        assert_eq!(decided.receipt.receipt_id, "hydrart_aa6888b512e233ab");
        assert_eq!(
            serde_json::to_string(&decided.factors).expect("JSON"),
            r#"{"expected_fee_msats":18,"confidence":0.6735,"liquidity_score":0.49760000000000004,"policy_notes":["policy:lowest_total_cost_v1","candidate_count:2","selected_reliability_bps:8700","direct_liquidity_unavailable","routing_confidence_degraded"]}"#
        );
        let healthy = decide(&scored(), golden(), &Risk::default()).expect("decided");
        assert_eq!((healthy.factors.confidence, healthy.factors.liquidity_score), (0.898, 0.622));
        assert_eq!(healthy.factors.policy_notes.len(), 3);
        assert_eq!(
            healthy.decision_sha256,
            "4960b35b0c908842689d0ed344e816918c954ecbb590ff49930fdc5f74793594"
        );
        assert_eq!(
            healthy.receipt.canonical_json_sha256,
            "425f0e3fc95d585478e2002e8abfe45b25e3e7417c9d1aff724f3691454ebaa5"
        );
    }

    fn named(provider_id: &str) -> ScoreOffer {
        ScoreOffer { provider_id: provider_id.into(), ..offer("a", 1, 1, 1, "x") }
    }

    #[test]
    fn risks_take_routes_away() {
        let left = |risk: &Risk| {
            let offers = vec![named(DIRECT), named(CEP), named("other")];
            let decided = decide(&scored(), offers, risk).expect("decided");
            let names: Vec<_> = decided.candidates.iter().map(|one| one.provider_id.clone()).collect();
            (names, decided.factors.policy_notes[3..].to_vec())
        };
        let (names, notes) = left(&no_wallet());
        assert_eq!(names, ["other", CEP]);
        assert_eq!(
            notes,
            [
                "direct_candidate_filtered_by_risk",
                "direct_liquidity_unavailable",
                "routing_confidence_degraded"
            ]
        );
        let halted = Risk { halt_new_envelopes: true, ..Risk::default() };
        assert_eq!(
            left(&halted),
            (vec!["other".into(), DIRECT.into()], vec!["cep_candidate_filtered_by_breaker".into()])
        );
        let all = decide(&scored(), vec![named(DIRECT)], &no_wallet()).expect_err("denied");
        let Stop::Refusal(refusal) = all else { panic!("a refusal") };
        assert_eq!(
            (refusal.code.name(), refusal.message.as_str()),
            ("conflict", "hydra risk breakers denied all routing candidates")
        );
    }

    #[test]
    fn constraints_are_an_object_or_nothing() {
        let with = |constraints: Option<Value>| {
            decide(&scored(), vec![ScoreOffer { constraints, ..named("p") }], &Risk::default())
        };
        for none in [None, Some(Value::Null)] {
            assert_eq!(with(none).expect("decided").selected.constraints, json!({}));
        }
        for wrong in [json!("x"), json!([]), json!(1)] {
            let Err(Stop::Refusal(refusal)) = with(Some(wrong)) else { panic!("a refusal") };
            assert_eq!(refusal.message, "candidate.constraints must be an object");
        }
    }
}

//! Decides what an agent is offered (credit-fx §3): how much, and at which fee. Pure: the same inputs give the same
//! decision to the bit, today and when it is explained.

use oa_contract::{Timestamp, wire::credit::Outcome};
use serde_json::{Value, json};

use super::policy::CreditPolicy;

/// At least so many settlements are looked at.
pub const LEAST_HISTORY: u64 = 200;
const AUDIT: &str = "openagents.credit.underwriting_audit.v1";
const INPUTS: &str = "openagents.credit.underwriting_inputs.v1";

/// A settlement, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub outcome: Outcome,
    pub spent_sats: u64,
    pub created_at: Timestamp,
}

/// What an agent has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub count: u64,
    pub sats: u64,
}

/// What is known of an agent at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    pub agent_id: String,
    pub since: Timestamp,
    pub settled: u64,
    pub succeeded: u64,
    pub success_volume_sats: u64,
    pub losses: u64,
    /// Debts that were not repaid when they were due.
    pub defaults: u64,
    /// Of losses and defaults.
    pub weighted_losses: f64,
    pub open: Open,
    /// So many settlements were looked at, at most.
    pub sample: u64,
}

/// The part of the policy that a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    pub base_sats: u64,
    pub k: f64,
    pub default_penalty_multiplier: f64,
    pub max_sats_per_envelope: u64,
    pub min_fee_bps: u32,
    pub max_fee_bps: u32,
    pub fee_risk_scaler: f64,
}

impl From<&CreditPolicy> for Terms {
    fn from(policy: &CreditPolicy) -> Self {
        Terms {
            base_sats: policy.underwriting_base_sats,
            k: policy.underwriting_k,
            default_penalty_multiplier: policy.underwriting_default_penalty_multiplier,
            max_sats_per_envelope: policy.max_sats_per_envelope,
            min_fee_bps: policy.min_fee_bps,
            max_fee_bps: policy.max_fee_bps,
            fee_risk_scaler: policy.fee_risk_scaler,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    pub limit_sats: u64,
    pub fee_bps: u32,
    pub risk_score: f64,
}

/// How much a loss counts, by its age; a clock that ran ahead makes it no younger than now.
pub fn weight(age_seconds: i64) -> f64 {
    match age_seconds.max(0) {
        0..=3_600 => 1.0,
        3_601..=86_400 => 0.75,
        86_401..=604_800 => 0.50,
        _ => 0.25,
    }
}

impl Inputs {
    /// Newest first; every outcome but success is a loss. `defaulted`: when what was drawn was not repaid.
    pub fn of(
        agent_id: &str,
        since: Timestamp,
        now: Timestamp,
        history: &[Settled],
        defaulted: &[Timestamp],
        open: Open,
    ) -> Self {
        let age = |at: Timestamp| now.millis_since(at).div_euclid(1_000);
        let succeeded = history.iter().filter(|one| one.outcome == Outcome::Success);
        let lost = || history.iter().filter(|one| one.outcome != Outcome::Success);
        let moments = lost().map(|one| one.created_at).chain(defaulted.iter().copied());
        Inputs {
            agent_id: agent_id.to_owned(),
            since,
            settled: history.len() as u64,
            succeeded: succeeded.clone().count() as u64,
            success_volume_sats: succeeded.fold(0, |sum: u64, one| sum.saturating_add(one.spent_sats)),
            losses: lost().count() as u64,
            defaults: defaulted.len() as u64,
            weighted_losses: moments.map(|at| weight(age(at))).sum(),
            open,
            sample: LEAST_HISTORY,
        }
    }

    pub fn pass_rate(&self) -> f64 {
        match self.settled {
            0 => 1.0,
            all => self.succeeded as f64 / all as f64,
        }
    }
}

/// The formulas of §3.2, term by term.
pub fn decide(inputs: &Inputs, terms: &Terms) -> Decision {
    let exposure = inputs.open.sats as f64;
    let raw = terms.base_sats as f64 + terms.k * (inputs.success_volume_sats as f64).sqrt();
    let loss_penalty = 1.0 / (1.0 + inputs.weighted_losses * terms.default_penalty_multiplier);
    let exposure_penalty = if raw <= 1.0 { 1.0 } else { 1.0 / (1.0 + exposure / raw) };
    let limit = (raw * loss_penalty * exposure_penalty).round();
    let risk = (1.0 - inputs.pass_rate()).max(0.0) * 2.0
        + inputs.weighted_losses * 0.5
        + (exposure / 50_000.0).min(50.0).sqrt();
    let fee = (risk * terms.fee_risk_scaler).round();
    Decision {
        // A float that does not fit becomes the nearest number that does.
        limit_sats: (limit as u64).clamp(1, terms.max_sats_per_envelope.max(1)),
        fee_bps: (fee as u32).clamp(terms.min_fee_bps, terms.max_fee_bps.max(terms.min_fee_bps)),
        risk_score: risk,
    }
}

/// What an offer is worth: no more than is asked for, and at least one.
pub fn offered_sats(requested: u64, limit: u64) -> u64 {
    requested.min(limit).max(1)
}

/// Rounded up, so that no fee is lost.
pub fn fee_sats(spent_sats: u64, fee_bps: u32) -> u64 {
    let fee = (u128::from(spent_sats) * u128::from(fee_bps)).div_ceil(10_000);
    u64::try_from(fee).unwrap_or(u64::MAX)
}

/// Whole sats, rounded up, at least one.
pub fn sats(msats: u64) -> u64 {
    msats.div_ceil(1_000).max(1)
}

pub fn inputs_document(inputs: &Inputs, terms: &Terms) -> Value {
    json!({
        "schema": INPUTS,
        "agentId": inputs.agent_id,
        "since": inputs.since,
        "settledCount30d": inputs.settled,
        "succeededCount30d": inputs.succeeded,
        "successVolumeSats30d": inputs.success_volume_sats,
        "passRate30d": inputs.pass_rate(),
        "lossCount30d": inputs.losses,
        "defaultCount30d": inputs.defaults,
        "weightedLossScore": inputs.weighted_losses,
        "openEnvelopeCount": inputs.open.count,
        "openExposureSats": inputs.open.sats,
        "policy": {
            "baseSats": terms.base_sats,
            "k": terms.k,
            "defaultPenaltyMultiplier": terms.default_penalty_multiplier,
            "maxSatsPerEnvelope": terms.max_sats_per_envelope,
            "minFeeBps": terms.min_fee_bps,
            "maxFeeBps": terms.max_fee_bps,
            "feeRiskScaler": terms.fee_risk_scaler,
            "historyLimit": inputs.sample,
        },
    })
}

pub fn decision_document(decision: &Decision) -> Value {
    json!({
        "limitSats": decision.limit_sats,
        "feeBps": decision.fee_bps,
        "requiresVerifier": true,
        "riskScore": decision.risk_score,
    })
}

/// What is written down when an offer is made.
pub fn audit(
    offer_id: &str,
    intent_id: Option<&str>,
    issued_at: Timestamp,
    inputs: &Inputs,
    terms: &Terms,
    decision: &Decision,
) -> Value {
    json!({
        "schema": AUDIT,
        "offerId": offer_id,
        "intentId": intent_id,
        "issuedAt": issued_at,
        "inputs": inputs_document(inputs, terms),
        "decision": decision_document(decision),
    })
}

/// Reads what was written down, so that the decision can be made once more.
pub fn read_back(audit: &Value) -> Option<(Inputs, Terms)> {
    let inputs = audit.get("inputs")?;
    let policy = inputs.get("policy")?;
    let whole = |of: &Value, name: &str| of.get(name)?.as_u64();
    let real = |of: &Value, name: &str| of.get(name)?.as_f64();
    let small = |name: &str| u32::try_from(whole(policy, name)?).ok();
    let read = Inputs {
        agent_id: inputs.get("agentId")?.as_str()?.to_owned(),
        since: Timestamp::parse(inputs.get("since")?.as_str()?)?,
        settled: whole(inputs, "settledCount30d")?,
        succeeded: whole(inputs, "succeededCount30d")?,
        success_volume_sats: whole(inputs, "successVolumeSats30d")?,
        losses: whole(inputs, "lossCount30d")?,
        defaults: whole(inputs, "defaultCount30d")?,
        weighted_losses: real(inputs, "weightedLossScore")?,
        open: Open { count: whole(inputs, "openEnvelopeCount")?, sats: whole(inputs, "openExposureSats")? },
        sample: whole(policy, "historyLimit")?,
    };
    let terms = Terms {
        base_sats: whole(policy, "baseSats")?,
        k: real(policy, "k")?,
        default_penalty_multiplier: real(policy, "defaultPenaltyMultiplier")?,
        max_sats_per_envelope: whole(policy, "maxSatsPerEnvelope")?,
        min_fee_bps: small("minFeeBps")?,
        max_fee_bps: small("maxFeeBps")?,
        fee_risk_scaler: real(policy, "feeRiskScaler")?,
    };
    Some((read, terms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400);

    fn terms() -> Terms {
        Terms::from(&CreditPolicy::default())
    }

    fn settled(outcome: Outcome, spent_sats: u64, age: i64) -> Settled {
        Settled { outcome, spent_sats, created_at: NOW.plus_seconds(-age) }
    }

    fn decided(history: &[Settled], open: Open, terms: &Terms) -> (u64, u32) {
        let inputs = Inputs::of("a", NOW.plus_seconds(-2_592_000), NOW, history, &[], open);
        let decision = decide(&inputs, terms);
        (decision.limit_sats, decision.fee_bps)
    }

    #[test]
    fn the_check_values_of_the_specification() {
        let none = Open::default();
        let loss = || settled(Outcome::Failed, 0, 60);
        assert_eq!(decided(&[], none, &terms()), (2_000, 50));
        assert_eq!(decided(&[], Open { count: 1, sats: 2_000 }, &terms()), (1_000, 80));
        assert_eq!(decided(&[loss()], none, &terms()), (667, 1_000));
        let mut busy = vec![settled(Outcome::Success, 2_500, 60); 10];
        busy.push(loss());
        assert_eq!(decided(&busy, Open { count: 1, sats: 5_000 }, &terms()), (7_177, 399));
        let steep = Terms { base_sats: 20_000, k: 0.0, default_penalty_multiplier: 5.0, ..terms() };
        assert_eq!(decided(&[loss()], none, &steep), (3_333, 1_000));
    }

    #[test]
    fn a_loss_counts_less_with_its_age() {
        let weights = [-5, 0, 3_600, 3_601, 86_400, 86_401, 604_800, 604_801].map(weight);
        assert_eq!(weights, [1.0, 1.0, 1.0, 0.75, 0.75, 0.5, 0.5, 0.25]);
        let inputs = |defaulted: &[Timestamp]| {
            let history = [settled(Outcome::Expired, 0, 3_700)];
            Inputs::of("a", NOW, NOW, &history, defaulted, Open::default())
        };
        assert_eq!(inputs(&[]).weighted_losses.to_bits(), 0.75_f64.to_bits());
        let more = inputs(&[NOW.plus_seconds(-10)]);
        assert_eq!((more.losses, more.defaults, more.weighted_losses.to_bits()), (1, 1, 1.75_f64.to_bits()));
    }

    #[test]
    fn amounts_are_rounded_up_and_offers_are_at_least_one() {
        assert_eq!((fee_sats(250, 50), fee_sats(0, 50), fee_sats(10_000, 1)), (2, 0, 1));
        assert_eq!(fee_sats(u64::MAX, 100_000), u64::MAX, "it does not fit, and does not wrap");
        assert_eq!((sats(0), sats(1), sats(1_000), sats(1_001)), (1, 1, 1, 2));
        assert_eq!((offered_sats(5, 3), offered_sats(3, 5), offered_sats(0, 0)), (3, 3, 1));
    }

    #[test]
    fn what_is_written_down_is_read_back_and_decided_the_same() {
        let history = [settled(Outcome::Failed, 0, 4_000), settled(Outcome::Success, 777, 9)];
        let inputs = Inputs::of("ab", NOW, NOW, &history, &[], Open { count: 2, sats: 3_333 });
        let decision = decide(&inputs, &terms());
        let written = audit("cepo_1", None, NOW, &inputs, &terms(), &decision);
        let text = serde_json::to_string(&written).expect("JSON");
        let (read, terms) = read_back(&serde_json::from_str(&text).expect("JSON")).expect("read");
        assert_eq!(read, inputs);
        assert_eq!(decide(&read, &terms), decision);
        assert_eq!(read_back(&serde_json::json!({})), None);
    }

    proptest! {
        #[test]
        fn no_history_leaves_the_bounds_and_no_loss_makes_an_agent_worth_more(
            history in prop::collection::vec((0..3_u8, any::<u64>(), -9..9_999_999_i64), 0..40),
            count in 0..9_u64,
            open in any::<u64>(),
            min_fee in 0..5_000_u32,
        ) {
            let outcomes = [Outcome::Success, Outcome::Failed, Outcome::Expired];
            let history: Vec<_> = history
                .into_iter()
                .map(|(outcome, spent, age)| settled(outcomes[usize::from(outcome)], spent, age))
                .collect();
            let terms = Terms { min_fee_bps: min_fee, max_fee_bps: 2_000, ..terms() };
            let open = Open { count, sats: open };
            let (limit, fee) = decided(&history, open, &terms);
            prop_assert!((1..=100_000).contains(&limit));
            prop_assert!(fee >= min_fee && fee <= min_fee.max(2_000));
            let mut worse = history;
            worse.push(settled(Outcome::Failed, 0, 1));
            let (lower, dearer) = decided(&worse, open, &terms);
            prop_assert!(lower <= limit && dearer >= fee);
        }
    }
}

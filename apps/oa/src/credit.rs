//! Decides how an underwriting decision is explained: what was known, what was decided, and that the same comes of it when
//! it is decided once more, by the runtime from its log and here from what was written down.

use oa_client::Client;
use oa_contract::{
    Nothing,
    matrix::CreditExplain,
    operation::Call,
    wire::{credit::Explanation, paths::OfferPath},
};
use oa_runtime::credit::underwriting;
use serde_json::Value;

use crate::{
    failure::{Failure, OK, WRONG},
    output::{Format, plain, table},
};

pub async fn explain(client: &Client, offer_id: &str, format: Format) -> Result<u8, Failure> {
    let path = OfferPath { offer_id: offer_id.to_owned() };
    let call = Call::<CreditExplain> { path, query: Nothing {}, body: Nothing {} };
    let told = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
    let same = same(&told);
    format.show(&text(&told, same), &told)?;
    Ok(if same { OK } else { WRONG })
}

/// The log gives what was written down, and so does the decision made here.
pub fn same(told: &Explanation) -> bool {
    let again = underwriting::read_back(&told.audit)
        .map(|(inputs, terms)| underwriting::decision_document(&underwriting::decide(&inputs, &terms)));
    told.replay_matches && again.as_ref() == told.audit.get("decision")
}

fn text(told: &Explanation, same: bool) -> String {
    let offer = &told.offer;
    let (inputs, decision) = (&told.audit["inputs"], &told.audit["decision"]);
    let said = |value: &Value| plain(&value.to_string());
    let mut rows = vec![
        vec!["offer".into(), plain(&offer.offer_id)],
        vec!["agent".into(), plain(&offer.agent_id)],
        vec!["made".into(), offer.issued_at.zulu()],
    ];
    for (name, member) in [
        ("settlements", "settledCount30d"),
        ("paid, sats", "successVolumeSats30d"),
        ("share passed", "passRate30d"),
        ("losses", "lossCount30d"),
        ("their weight", "weightedLossScore"),
        ("open envelopes", "openEnvelopeCount"),
        ("open, sats", "openExposureSats"),
    ] {
        rows.push(vec![name.into(), said(&inputs[member])]);
    }
    for (name, member) in [("limit, sats", "limitSats"), ("fee, bps", "feeBps"), ("risk", "riskScore")] {
        rows.push(vec![name.into(), said(&decision[member])]);
    }
    rows.push(vec!["offered, sats".into(), offer.max_sats.to_string()]);
    let verdict = match same {
        true => "The log gives the same inputs, and the same inputs the same decision.\n",
        false => "The log gives something else than what was written down:\n",
    };
    let mut out = table(&rows);
    out.push_str(verdict);
    if !same {
        out.push_str(&format!("{}\n{}\n", said(&told.replayed_inputs), said(&told.replayed_decision)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Explanation {
        let inputs = underwriting::Inputs::of(
            &"a".repeat(64),
            oa_contract::Timestamp::EPOCH,
            oa_contract::Timestamp::EPOCH,
            &[],
            &[],
            underwriting::Open::default(),
        );
        let policy = oa_runtime::credit::CreditPolicy::default();
        let terms = underwriting::Terms::from(&policy);
        let decision = underwriting::decide(&inputs, &terms);
        let now = oa_contract::Timestamp::EPOCH;
        let audit = underwriting::audit("cepo_1", None, now, &inputs, &terms, &decision);
        let offer = json!({
            "offer_id": "cepo_1", "agent_id": "a".repeat(64), "pool_id": "b".repeat(64), "scope_type": "nip90",
            "scope_id": "job", "max_sats": 2000, "fee_bps": 50, "requires_verifier": true, "exp": now,
            "status": "offered", "issued_at": now,
        });
        Explanation {
            schema: "openagents.credit.underwriting_explanation.v1".into(),
            offer: serde_json::from_value(offer).expect("an offer"),
            replayed_inputs: audit["inputs"].clone(),
            replayed_decision: audit["decision"].clone(),
            canonical_json_sha256: String::new(),
            replay_matches: true,
            audit,
        }
    }

    #[test]
    fn a_decision_that_comes_out_the_same_is_told_so() {
        let told = told();
        assert!(same(&told));
        let text = text(&told, true);
        assert!(text.contains("limit, sats") && text.contains("2000") && text.contains("the same decision"));
    }

    #[test]
    fn a_decision_that_was_changed_is_not_the_same() {
        let mut other = told();
        other.audit["decision"]["feeBps"] = json!(51);
        assert!(!same(&other));
        let mut other = told();
        other.replay_matches = false;
        assert!(!same(&other) && text(&other, false).contains("something else"));
    }
}

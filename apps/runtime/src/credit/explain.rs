//! `GET /admin/v1/credit/offers/:offer_id`: why an offer is what it is. The decision is made once more, from the log of
//! settlements as it was when the offer was made, and stands beside what was written down then.

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, matrix::CreditExplain, wire::credit::Explanation,
};
use oa_store::{Tx, tables::credit as table};
use serde_json::Value;

use super::{inputs_since, read_back, underwriting};
use crate::Runtime;

impl Handle<CreditExplain> for Runtime {
    async fn handle(&self, ask: Ask<CreditExplain>) -> Result<Answer<Explanation>, Stop> {
        Ok(self.store.read("credit.explain", ask.path.offer_id, explain).await?.into())
    }
}

async fn explain(tx: &mut Tx, offer_id: &String) -> Result<Explanation, Stop> {
    let row = table::offer(tx, offer_id).await?.ok_or_else(|| Refusal::not_found("no such offer"))?;
    let audit: Value = read_back(&row.audit)?;
    let unread = || Fault::msg(format!("what was written down of {offer_id} cannot be read"));
    let (known, terms) = underwriting::read_back(&audit).ok_or_else(unread)?;
    let at = row.offer.issued_at;
    let inputs = inputs_since(tx, &row.offer.agent_id, known.sample, known.since, at).await?;
    let replayed_inputs = underwriting::inputs_document(&inputs, &terms);
    let replayed_decision = underwriting::decision_document(&underwriting::decide(&inputs, &terms));
    let matches = audit["inputs"] == replayed_inputs && audit["decision"] == replayed_decision;
    Ok(Explanation {
        schema: "openagents.credit.underwriting_explanation.v1".into(),
        offer: row.offer,
        audit,
        canonical_json_sha256: row.audit_sha256,
        replayed_inputs,
        replayed_decision,
        replay_matches: matches,
    })
}

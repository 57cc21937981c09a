//! `POST /internal/v1/credit/offer`: underwrites and prices what an agent asks for (credit-fx §4.2). Why it is what it is
//! is written down beside it.

use std::sync::Arc;

use oa_contract::{
    Answer, Ask, Caller, Clock, Handle, Refusal, Stop, canonical,
    matrix::CreditOffer,
    wire::credit::{AskOffer, Intent, OFFER_REQUEST, Offer, OfferReply, OfferStatus},
};
use oa_store::{
    Tx,
    tables::credit::{self as table, OfferRow},
};

use super::{
    Claim, CreditPolicy, LONGEST_SCOPE, acts_for, agent_key, amount_allowed, inputs, needed, public_key,
    receipts, schema, time_allowed,
    underwriting::{self, Terms},
    written,
};
use crate::{Runtime, TrustMode};

struct Offering {
    asked: AskOffer,
    caller: Caller,
    claim: Claim<'static>,
    policy: CreditPolicy,
    clock: Arc<dyn Clock>,
}

impl Handle<CreditOffer> for Runtime {
    async fn handle(&self, ask: Ask<CreditOffer>) -> Result<Answer<OfferReply>, Stop> {
        let offer = self.offer_credit(ask.body, ask.caller, false).await?;
        Ok(OfferReply { schema: "openagents.credit.offer_response.v1".into(), offer }.into())
    }
}

impl Runtime {
    /// `vouched`: whoever asks is believed to speak for the agent.
    pub(crate) async fn offer_credit(
        &self,
        body: AskOffer,
        caller: Caller,
        vouched: bool,
    ) -> Result<Offer, Stop> {
        let policy = self.config.credit.clone();
        let asked = read(body)?;
        let key = agent_key(&asked.agent_id);
        let believed = vouched || self.config.trust_mode == TrustMode::Lenient;
        let claim = if believed { Claim::Word } else { Claim::None };
        let offering = Offering { asked, caller, claim, policy, clock: self.clock.clone() };
        self.store.write("credit.offer", key, offering, offer).await
    }
}

/// The id that the offer will have.
pub(crate) fn id_of(body: &AskOffer) -> Result<String, Refusal> {
    Ok(receipts::offer_id(&receipts::offer_fingerprint(&read(body.clone())?)))
}

fn read(body: AskOffer) -> Result<AskOffer, Refusal> {
    schema(&body.schema, OFFER_REQUEST)?;
    let agent_id = public_key(&body.agent_id)?;
    let pool_id = public_key(&body.pool_id)?;
    let scope_id = needed("scope_id", &body.scope_id, LONGEST_SCOPE)?;
    let intent_id = body.intent_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    Ok(AskOffer { schema: OFFER_REQUEST.into(), agent_id, pool_id, scope_id, intent_id, ..body })
}

/// The same request is answered with the same offer, whatever would be offered now.
async fn offer(tx: &mut Tx, offering: &Offering) -> Result<Offer, Stop> {
    let Offering { asked, caller, claim, policy, clock } = offering;
    // Read where nobody else can write what is decided on: what was known at this moment is what is known here.
    let now = &clock.now();
    let fingerprint = receipts::offer_fingerprint(asked);
    let offer_id = receipts::offer_id(&fingerprint);
    acts_for(tx, caller, &asked.agent_id, *claim, *now).await?;
    if let Some(known) = table::offer(tx, &offer_id).await? {
        return match known.fingerprint == fingerprint {
            true => Ok(known.offer),
            false => Err(Refusal::conflict("offer_id reused with different offer parameters").into()),
        };
    }
    amount_allowed(asked.max_sats, policy)?;
    time_allowed(asked.exp, *now, policy)?;
    if let Some(intent_id) = &asked.intent_id {
        let intent = table::intent(tx, intent_id).await?;
        within(asked, &intent.ok_or_else(|| Refusal::not_found("no such intent"))?.intent)?;
    }
    let inputs = inputs(tx, &asked.agent_id, policy, *now).await?;
    let terms = Terms::from(policy);
    let decision = underwriting::decide(&inputs, &terms);
    let offer = Offer {
        offer_id: offer_id.clone(),
        agent_id: asked.agent_id.clone(),
        pool_id: asked.pool_id.clone(),
        scope_type: asked.scope_type,
        scope_id: asked.scope_id.clone(),
        max_sats: underwriting::offered_sats(asked.max_sats, decision.limit_sats),
        fee_bps: decision.fee_bps,
        requires_verifier: true,
        exp: asked.exp,
        status: OfferStatus::Offered,
        issued_at: *now,
    };
    let audit = underwriting::audit(&offer_id, asked.intent_id.as_deref(), *now, &inputs, &terms, &decision);
    let row = OfferRow {
        offer: offer.clone(),
        fingerprint,
        audit_sha256: canonical::canonical_hash(&audit),
        audit: written(&audit)?,
    };
    table::put_offer(tx, &row).await?;
    Ok(offer)
}

fn within(asked: &AskOffer, intent: &Intent) -> Result<(), Refusal> {
    let mismatch = |what: &str| Err(Refusal::conflict(format!("intent mismatch: {what}")));
    match () {
        () if asked.agent_id != intent.agent_id => mismatch("agent_id differs"),
        () if asked.scope_type != intent.scope_type || asked.scope_id != intent.scope_id => {
            mismatch("scope differs")
        }
        () if asked.max_sats > intent.max_sats => mismatch("max_sats exceeds intent"),
        () if asked.exp > intent.exp => mismatch("exp exceeds intent"),
        () => Ok(()),
    }
}

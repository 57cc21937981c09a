//! `POST /internal/v1/credit/envelope`: binds an offer to one provider, and holds what it may cost in the pool (credit-fx
//! §4.3). Asked again for the same provider, it is the same envelope.

use std::sync::Arc;

use oa_contract::{
    Answer, Ask, Caller, Clock, Handle, Refusal, Stop, Timestamp,
    matrix::CreditEnvelope,
    signer::Signer,
    wire::credit::{
        ENVELOPE_REQUEST, Envelope, EnvelopeReply, EnvelopeStatus, IssueEnvelope, Offer, OfferStatus,
    },
};
use oa_ledger::AccountId;
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, EnvelopeRow, OfferRow},
        credit_sums::{self, Debts, Whose},
    },
};

use super::{
    CreditPolicy, LONGEST_KEY, agent_key, borrower, borrower_key, envelope_key, health, inputs,
    inputs_of_borrower, keep_receipt, legs, lending, needed, public_key, read_back, receipts, recorded,
    schema,
    underwriting::{self, Inputs, Open, Terms},
    visible, written,
};
use crate::{Runtime, TrustMode, liquidity::payments};

struct Issuing {
    offer_id: String,
    provider_id: String,
    caller: Caller,
    policy: CreditPolicy,
    signer: Option<Signer>,
    wallet: AccountId,
    lenient: bool,
    /// Who answered for the agent when this was asked.
    borrower: String,
    clock: Arc<dyn Clock>,
}

impl Handle<CreditEnvelope> for Runtime {
    async fn handle(&self, ask: Ask<CreditEnvelope>) -> Result<Answer<EnvelopeReply>, Stop> {
        Ok(self.issue_envelope(ask.body, ask.caller).await?.into())
    }
}

impl Runtime {
    pub(crate) async fn issue_envelope(
        &self,
        body: IssueEnvelope,
        caller: Caller,
    ) -> Result<EnvelopeReply, Stop> {
        schema(&body.schema, ENVELOPE_REQUEST)?;
        let offer_id = needed("offer_id", &body.offer_id, LONGEST_KEY)?;
        let provider_id = public_key(&body.provider_id)?;
        // Whose offer it is never changes, so it can be read before.
        let offer = self
            .store
            .read("credit.envelope_look", offer_id.clone(), async |tx, id: &String| look(tx, id).await)
            .await?;
        let (offer, borrower) = offer.ok_or_else(unknown)?;
        let offer = offer.offer;
        let envelope_id = receipts::envelope_id(&receipts::envelope_fingerprint(&offer_id, &provider_id));
        let keys = [
            agent_key(&offer.agent_id),
            Key::text("credit_offer", offer_id.as_str()),
            envelope_key(&envelope_id),
            borrower_key(&borrower),
            lending::key(&offer.pool_id),
        ];
        let issuing = Issuing {
            offer_id,
            provider_id,
            caller,
            policy: self.config.credit.clone(),
            signer: self.signer.clone(),
            wallet: payments::wallet_account(&self.payments.terms().wallet_id)?,
            lenient: self.config.trust_mode == TrustMode::Lenient,
            borrower,
            clock: self.clock.clone(),
        };
        self.store.write("credit.envelope", keys, issuing, issue).await
    }
}

fn unknown() -> Refusal {
    Refusal::not_found("no such offer")
}

async fn look(tx: &mut Tx, offer_id: &str) -> Result<Option<(OfferRow, String)>, Stop> {
    let Some(row) = table::offer(tx, offer_id).await? else { return Ok(None) };
    let borrower = borrower(tx, &row.offer.agent_id).await?;
    Ok(Some((row, borrower)))
}

async fn issue(tx: &mut Tx, issuing: &Issuing) -> Result<EnvelopeReply, Stop> {
    // Read behind the keys: whoever issued before has issued earlier.
    let policy = &issuing.policy;
    let offer = table::offer(tx, &issuing.offer_id).await?.ok_or_else(unknown)?;
    let now = recorded(tx, &offer.offer.agent_id, issuing.clock.now()).await?;
    if !visible(tx, &issuing.caller, &offer.offer.agent_id, issuing.lenient).await? {
        return Err(unknown().into());
    }
    if let Some(known) = table::envelope_of_offer(tx, &issuing.offer_id).await?
        && known.envelope.provider_id == issuing.provider_id
    {
        return reply(known);
    }
    decide(&offer.offer, policy, now)?;
    breakers(tx, &offer.offer, issuing, now).await?;
    let outstanding = credit_sums::open_of_agent(tx, &offer.offer.agent_id, now).await?;
    if outstanding.count >= policy.max_outstanding_envelopes_per_agent {
        return Err(Refusal::conflict("max outstanding envelopes exceeded").into());
    }
    if borrower(tx, &offer.offer.agent_id).await? != issuing.borrower {
        return Err(Refusal::unavailable("the agent has another owner since a moment ago; ask again").into());
    }
    if !issuing.lenient {
        still_worth_it(tx, &offer.offer, &issuing.borrower, policy, now).await?;
    }
    lending::allows(tx, &offer.offer, &issuing.borrower, issuing.lenient, now).await?;
    let fingerprint = receipts::envelope_fingerprint(&issuing.offer_id, &issuing.provider_id);
    let envelope = of(&offer.offer, &issuing.provider_id, receipts::envelope_id(&fingerprint), now);
    let (wallet, until) = (&issuing.wallet, Some(envelope.exp));
    let hold_id = legs::hold(tx, &envelope, 1, wallet, issuing.lenient, until, now).await?;
    let receipt = receipts::issued(&envelope, issuing.signer.as_ref());
    keep_receipt(tx, "envelope", &envelope.envelope_id, &receipt, now).await?;
    let accepted = Offer { status: OfferStatus::Accepted, ..offer.offer.clone() };
    table::put_offer(tx, &OfferRow { offer: accepted, ..offer }).await?;
    let row = EnvelopeRow {
        envelope,
        borrower: issuing.borrower.clone(),
        receipt: written(&receipt.document)?,
        closed_at: None,
        hold_id: Some(hold_id),
        holds: 1,
        attempts: 0,
        payment_id: None,
        freed: false,
    };
    table::put_envelope(tx, &row).await?;
    reply(row)
}

fn reply(row: EnvelopeRow) -> Result<EnvelopeReply, Stop> {
    Ok(EnvelopeReply {
        schema: "openagents.credit.envelope_response.v1".into(),
        receipt: read_back(&row.receipt)?,
        envelope: row.envelope,
    })
}

/// In the order of §4.3.
fn decide(offer: &Offer, policy: &CreditPolicy, now: Timestamp) -> Result<(), Refusal> {
    if offer.status != OfferStatus::Offered {
        return Err(Refusal::conflict("offer is not in offered status"));
    }
    if offer.exp <= now {
        return Err(Refusal::invalid("offer expired"));
    }
    if !offer.requires_verifier {
        return Err(Refusal::invalid("offer.requires_verifier must be true"));
    }
    match offer.max_sats > policy.max_sats_per_envelope {
        true => Err(Refusal::invalid("offer.max_sats exceeds max_sats_per_envelope")),
        false => Ok(()),
    }
}

/// Everybody's first, then the agent's, the pool's and the provider's own.
async fn breakers(tx: &mut Tx, offer: &Offer, issuing: &Issuing, now: Timestamp) -> Result<(), Stop> {
    let policy = &issuing.policy;
    if health::sample(tx, policy, issuing.lenient, now).await?.breakers(policy).halt_new_envelopes {
        return Err(health::open("halt_new_envelopes").into());
    }
    // The reference knows everybody's breaker and no other.
    if issuing.lenient {
        return Ok(());
    }
    let own = [
        (Whose::Agent(&offer.agent_id), "agent"),
        (Whose::Pool(&offer.pool_id), "pool"),
        (Whose::Provider(&issuing.provider_id), "provider"),
    ];
    for (whose, name) in own {
        if health::halted(tx, policy, whose, now).await? {
            return Err(health::open(&format!("halt_new_envelopes ({name})")).into());
        }
    }
    Ok(())
}

/// Underwritten anew: what is held, being paid or owed already, and this, are together within one limit, of the agent
/// and of whoever answers for it. What was drawn makes nobody worth more before it is repaid.
async fn still_worth_it(
    tx: &mut Tx,
    offer: &Offer,
    borrower: &str,
    policy: &CreditPolicy,
    now: Timestamp,
) -> Result<(), Stop> {
    let agent = Inputs { open: Open::default(), ..inputs(tx, &offer.agent_id, policy, now).await? };
    let all = inputs_of_borrower(tx, borrower, policy, now).await?;
    for (mut inputs, debts) in [(agent, Debts::Agent(&offer.agent_id)), (all, Debts::Borrower(borrower))] {
        let committed = credit_sums::committed(tx, debts, now).await?;
        inputs.success_volume_sats = inputs.success_volume_sats.saturating_sub(committed.owed_sats());
        let limit = underwriting::decide(&inputs, &Terms::from(policy)).limit_sats;
        if committed.sats().saturating_add(offer.max_sats) > limit {
            let message = "offer.max_sats exceeds what the agent would be offered now";
            return Err(Refusal::conflict(message).into());
        }
    }
    Ok(())
}

fn of(offer: &Offer, provider_id: &str, envelope_id: String, now: Timestamp) -> Envelope {
    Envelope {
        envelope_id,
        offer_id: offer.offer_id.clone(),
        agent_id: offer.agent_id.clone(),
        pool_id: offer.pool_id.clone(),
        provider_id: provider_id.to_owned(),
        scope_type: offer.scope_type,
        scope_id: offer.scope_id.clone(),
        max_sats: offer.max_sats,
        fee_bps: offer.fee_bps,
        exp: offer.exp,
        status: EnvelopeStatus::Accepted,
        issued_at: now,
    }
}

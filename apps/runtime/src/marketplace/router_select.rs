//! `POST /internal/v1/marketplace/router/compute/select`: chooses between offers of several markets and writes the
//! choice into the run (marketplace §8).

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, canonical,
    matrix::MarketplaceRouterSelect,
    wire::{
        jobs::short,
        marketplace::{QuoteStanding, RouterCandidate, RouterDecision, SelectRoute},
    },
};
use oa_market::{
    commerce::Accept,
    router::{self, DECISION_SCHEMA, OURS, Policy, said},
};
use oa_store::{Tx, tables::market_quotes};
use serde_json::{Value, json, value::RawValue};

use super::decision::{self, Decision};
use crate::{Runtime, runs, workers::owner};

/// The choice, as far as it follows from the request alone.
#[derive(Debug)]
struct Chosen {
    owner: Owner,
    run_id: uuid::Uuid,
    capability: String,
    objective_hash: Option<String>,
    marketplace_id: String,
    policy: Policy,
    idempotency_key: Option<String>,
    decided_at_unix: Option<u64>,
    ranked: Vec<RouterCandidate>,
    decision_sha256: String,
}

impl Handle<MarketplaceRouterSelect> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceRouterSelect>) -> Result<Answer<RouterDecision>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let chosen = decide(owner, ask.body)?;
        self.can_prove()?;
        let now = self.now();
        let decided_at = chosen.decided_at_unix.unwrap_or_else(|| now.unix_seconds().unsigned_abs());
        let nostr_event = self.announced(&chosen, decided_at)?;
        let key = match &chosen.idempotency_key {
            Some(key) => decision::key(key)?,
            None => format!("router_decision:{}", chosen.decision_sha256),
        };
        let decision = Decision {
            lane: "market.router",
            run_id: chosen.run_id,
            caller: ask.caller,
            owner: Some(chosen.owner.clone()),
            key,
            fingerprint: fingerprint(&chosen),
            receipt_type: "RouterDecision",
            payload: payload(&chosen, decided_at, nostr_event.as_deref()),
            reply: reply(&chosen, nostr_event),
            now,
        };
        let key = runs::key(chosen.run_id);
        let done = self.store.write("market.router", key, decision, record).await?;
        Ok(done.into())
    }
}

/// Says of each quote whether it is ours, then keeps the decision.
async fn record(tx: &mut Tx, decision: &Decision<RouterDecision>) -> Result<RouterDecision, Stop> {
    let mut reply = decision.reply.clone();
    if let Some(owner) = &decision.owner {
        reply.quotes = standings(tx, owner, &reply.candidates).await?;
    }
    let decision = Decision {
        lane: decision.lane,
        run_id: decision.run_id,
        caller: decision.caller.clone(),
        owner: decision.owner.clone(),
        key: decision.key.clone(),
        fingerprint: decision.fingerprint,
        receipt_type: decision.receipt_type,
        payload: decision.payload.clone(),
        reply,
        now: decision.now,
    };
    decision::record(tx, &decision).await
}

/// A quote of ours is one that we promised to this owner, at this price and under this hash; of other markets
/// nothing is known.
async fn standings(
    tx: &mut Tx,
    owner: &Owner,
    candidates: &[RouterCandidate],
) -> Result<Vec<QuoteStanding>, Stop> {
    let mut standings = Vec::new();
    for candidate in candidates {
        let Some(quote_id) = &candidate.quote_id else { continue };
        let kept = match candidate.marketplace_id == OURS {
            true => market_quotes::get(tx, owner, quote_id).await?,
            false => None,
        };
        let verified = kept.is_some_and(|kept| {
            let parts = [kept.provider_price, kept.operator_fee, kept.policy_adder];
            let total = parts.iter().map(|part| part.get()).fold(0, u64::saturating_add);
            let hashed = candidate.quote_sha256.as_ref().is_none_or(|hash| *hash == kept.quote_sha256);
            hashed && total == candidate.total_price_msats && kept.provider_id == candidate.provider_id
        });
        standings.push(QuoteStanding {
            marketplace_id: candidate.marketplace_id.clone(),
            provider_id: candidate.provider_id.clone(),
            quote_id: quote_id.clone(),
            verified,
        });
    }
    Ok(standings)
}

fn decide(owner: Owner, body: SelectRoute) -> Result<Chosen, Refusal> {
    let capability = body.capability.trim().to_owned();
    if capability.is_empty() {
        return Err(Refusal::invalid("capability must not be empty"));
    }
    router::countable(body.candidates.len())?;
    let policy = Policy::parse(body.policy.as_deref())?;
    let mut ranked = Vec::with_capacity(body.candidates.len());
    for offer in body.candidates {
        ranked.push(router::normalise(offer)?);
    }
    router::rank(policy, &mut ranked);
    let objective_hash = said(body.objective_hash);
    let run_id = body.run_id.to_string();
    let decision_sha256 =
        router::decision_hash(policy, &run_id, &capability, objective_hash.as_deref(), &ranked);
    Ok(Chosen {
        owner,
        run_id: body.run_id,
        capability,
        objective_hash,
        marketplace_id: said(body.marketplace_id).unwrap_or_else(|| OURS.into()),
        policy,
        idempotency_key: said(body.idempotency_key),
        decided_at_unix: body.decided_at_unix.filter(|at| *at > 0),
        ranked,
        decision_sha256,
    })
}

/// What two requests under one key are compared by. Under a key that is the decision's own, the decision.
fn fingerprint(chosen: &Chosen) -> [u8; 32] {
    let named =
        chosen.idempotency_key.is_some().then(|| json!([chosen.marketplace_id, chosen.decided_at_unix]));
    canonical::canonical_digest(&json!([chosen.owner.to_string(), chosen.decision_sha256, named]))
}

fn payload(chosen: &Chosen, decided_at: u64, nostr_event: Option<&RawValue>) -> Value {
    json!({
        "schema": DECISION_SCHEMA,
        "decision_sha256": chosen.decision_sha256,
        "decided_at_unix": decided_at,
        "policy": chosen.policy.name(),
        "marketplace_id": chosen.marketplace_id,
        "capability": chosen.capability,
        "objective_hash": chosen.objective_hash,
        "selected": chosen.ranked.first(),
        "candidates": chosen.ranked,
        "nostr_event": nostr_event.and_then(|event| serde_json::from_str::<Value>(event.get()).ok()),
    })
}

fn reply(chosen: &Chosen, nostr_event: Option<Box<RawValue>>) -> RouterDecision {
    // There is at least one candidate: none was refused before.
    let selected = chosen.ranked[0].clone();
    RouterDecision {
        schema: DECISION_SCHEMA.into(),
        decision_sha256: chosen.decision_sha256.clone(),
        policy: chosen.policy.name().into(),
        run_id: chosen.run_id,
        capability: chosen.capability.clone(),
        objective_hash: chosen.objective_hash.clone(),
        selected,
        candidates: chosen.ranked.clone(),
        nostr_event,
        quotes: Vec::new(),
    }
}

impl Runtime {
    fn announced(&self, chosen: &Chosen, decided_at: u64) -> Result<Option<Box<RawValue>>, Fault> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let (owner, run_id) = (chosen.owner.to_string(), chosen.run_id.to_string());
        let id = short(&chosen.decision_sha256);
        let accept = Accept {
            message_id: format!("decision_{id}"),
            marketplace_id: &chosen.marketplace_id,
            actor_id: &owner,
            created_at_unix: decided_at,
            quote_id: chosen.ranked.first().and_then(|selected| selected.quote_id.as_deref()),
            order_id: format!("order_{id}"),
            receipt_id: None,
            objective_hash: chosen.objective_hash.as_deref(),
            run_id: &run_id,
            body: json!({
                "schema": "openagents.marketplace.router_decision_payload.v1",
                "decision_sha256": chosen.decision_sha256,
                "policy": chosen.policy.name(),
                "marketplace_id": chosen.marketplace_id,
                "capability": chosen.capability,
                "objective_hash": chosen.objective_hash,
                "selected": chosen.ranked.first(),
                "candidates": chosen.ranked,
            }),
        };
        let event = serde_json::value::to_raw_value(&accept.event(signer));
        Ok(Some(event.map_err(|error| Fault::new("writing an event", error))?))
    }
}

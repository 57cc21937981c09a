//! `POST /internal/v1/hydra/routing/score`: ranks routes under the risks of the moment, says how good the best one
//! is, and writes the decision into the run (marketplace §9).

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, canonical,
    matrix::HydraRoutingScore,
    wire::{
        hydra::{RoutingScore, ScoreRoutes},
        jobs::short,
    },
};
use oa_market::{
    commerce::Accept,
    router::{self, OURS, Policy, said},
    score::{self, RESPONSE_SCHEMA, Scored},
};
use oa_store::Tx;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::{
    Runtime,
    marketplace::decision::{self, Decision},
    runs,
};

impl Handle<HydraRoutingScore> for Runtime {
    async fn handle(&self, ask: Ask<HydraRoutingScore>) -> Result<Answer<RoutingScore>, Stop> {
        let asked = read(ask.body)?;
        self.can_prove()?;
        let now = self.now();
        let run_id = asked.run_id.to_string();
        let scored = Scored {
            policy: asked.policy,
            run_id: &run_id,
            marketplace_id: &asked.marketplace_id,
            capability: &asked.capability,
            objective_hash: asked.body.objective_hash.as_deref(),
            decided_at_unix: match asked.body.decided_at_unix {
                0 => now.unix_seconds().unsigned_abs(),
                said => said,
            },
        };
        let risks = self.risks().await?;
        let decided = score::decide(&scored, asked.body.candidates.clone(), &risks.for_scoring())?;
        self.hydra.decided(&decided.selected.provider_id, decided.factors.confidence, &risks.throttle);
        let decision = Decision {
            lane: "hydra.score",
            run_id: asked.run_id,
            caller: ask.caller,
            owner: None,
            key: asked.key.clone(),
            fingerprint: asked.fingerprint,
            receipt_type: "HydraRoutingDecision",
            payload: score::receipt_document(&scored, &decided),
            reply: self.reply(&scored, decided)?,
            now,
        };
        let done = self.store.write("hydra.score", runs::key(asked.run_id), decision, record).await?;
        Ok(done.into())
    }
}

async fn record(tx: &mut Tx, decision: &Decision<RoutingScore>) -> Result<RoutingScore, Stop> {
    decision::record(tx, decision).await
}

/// What was asked, once it is whole.
struct Asked {
    body: ScoreRoutes,
    key: String,
    run_id: Uuid,
    capability: String,
    marketplace_id: String,
    policy: Policy,
    fingerprint: [u8; 32],
}

fn read(mut body: ScoreRoutes) -> Result<Asked, Stop> {
    let fingerprint = canonical::canonical_digest(
        &serde_json::to_value(&body).map_err(|error| Fault::new("reading a request", error))?,
    );
    let key = decision::key(&body.idempotency_key)?;
    if key.is_empty() {
        return Err(Refusal::invalid("idempotency_key must not be empty").into());
    }
    let run_id =
        Uuid::parse_str(body.run_id.trim()).map_err(|_| Refusal::invalid("run_id must be a valid UUID"))?;
    let capability = body.capability.trim().to_owned();
    if capability.is_empty() {
        return Err(Refusal::invalid("capability must not be empty").into());
    }
    router::countable(body.candidates.len())?;
    let policy = Policy::parse(Some(&body.policy))?;
    body.objective_hash = said(body.objective_hash);
    let marketplace_id = said(Some(body.marketplace_id.clone())).unwrap_or_else(|| OURS.into());
    Ok(Asked { key, run_id, capability, marketplace_id, policy, fingerprint, body })
}

impl Runtime {
    fn reply(&self, scored: &Scored<'_>, decided: score::Decision) -> Result<RoutingScore, Fault> {
        let event = self.announced_route(scored, &decided);
        let nostr_event = RawValue::from_string(event.to_string())
            .map_err(|error| Fault::new("writing an event", error))?;
        Ok(RoutingScore {
            schema: RESPONSE_SCHEMA.into(),
            decision_sha256: decided.decision_sha256,
            policy: scored.policy.name().into(),
            run_id: scored.run_id.into(),
            marketplace_id: scored.marketplace_id.into(),
            capability: scored.capability.into(),
            objective_hash: scored.objective_hash.map(str::to_owned),
            selected: decided.selected,
            candidates: decided.candidates,
            factors: decided.factors,
            receipt: decided.receipt,
            nostr_event,
            decided_at_unix: scored.decided_at_unix,
        })
    }

    /// The signed announcement; empty without a key.
    fn announced_route(&self, scored: &Scored<'_>, decided: &score::Decision) -> Value {
        let Some(signer) = &self.signer else { return json!({}) };
        let id = short(&decided.decision_sha256);
        let accept = Accept {
            message_id: format!("hydra_decision_{id}"),
            marketplace_id: scored.marketplace_id,
            actor_id: "hydra.runtime",
            created_at_unix: scored.decided_at_unix,
            quote_id: decided.selected.quote_id.as_deref(),
            order_id: format!("hydra_order_{id}"),
            receipt_id: Some(&decided.receipt.receipt_id),
            objective_hash: scored.objective_hash,
            run_id: scored.run_id,
            body: json!({
                "schema": "openagents.hydra.routing_decision_payload.v1",
                "decision_sha256": decided.decision_sha256,
                "policy": scored.policy.name(),
                "marketplace_id": scored.marketplace_id,
                "capability": scored.capability,
                "objective_hash": scored.objective_hash,
                "selected": decided.selected,
                "factors": decided.factors,
                "receipt": decided.receipt,
            }),
        };
        accept.event(signer)
    }
}

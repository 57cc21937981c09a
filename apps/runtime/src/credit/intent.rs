//! `POST /internal/v1/credit/intent`: what an agent wants to be able to spend (credit-fx §4.1). Nothing is reserved.

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop, Timestamp,
    canonical::compact,
    matrix::CreditIntent,
    wire::credit::{DeclareIntent, INTENT_REQUEST, Intent, IntentReply},
};
use oa_store::{
    Key, Tx,
    tables::credit::{self as table, IntentRow},
};
use serde_json::Value;

use super::{
    Claim, CreditPolicy, LONGEST_KEY, LONGEST_SCOPE, acts_for, agent_key, amount_allowed, claim_sha256,
    context, needed, public_key, receipts, schema, time_allowed,
};
use crate::{Runtime, TrustMode};

struct Declaring {
    body: DeclareIntent,
    context: Value,
    intent_id: String,
    caller: Caller,
    policy: CreditPolicy,
    signature: Option<String>,
    lenient: bool,
    now: Timestamp,
}

impl Handle<CreditIntent> for Runtime {
    async fn handle(&self, ask: Ask<CreditIntent>) -> Result<Answer<IntentReply>, Stop> {
        let policy = self.config.credit.clone();
        let signature = ask.body.agent_signature.clone();
        let (body, context) = read(ask.body)?;
        // Keys of owners are their own; those of services that act for anybody are one space.
        let intent_id = receipts::intent_id(&match ask.caller.owner() {
            None => body.idempotency_key.clone(),
            Some(owner) => format!("{owner}\n{}", body.idempotency_key),
        });
        let keys = [agent_key(&body.agent_id), Key::text("credit_intent", &intent_id)];
        let declaring = Declaring {
            body,
            context,
            intent_id,
            caller: ask.caller,
            policy,
            signature,
            lenient: self.config.trust_mode == TrustMode::Lenient,
            now: self.now(),
        };
        let intent = self.store.write("credit.intent", keys, declaring, declare).await?;
        Ok(IntentReply { schema: "openagents.credit.intent_response.v1".into(), intent }.into())
    }
}

fn read(body: DeclareIntent) -> Result<(DeclareIntent, Value), Refusal> {
    let context = context("CreditIntentRequestV1", body.policy_context)?;
    schema(&body.schema, INTENT_REQUEST)?;
    let idempotency_key = needed("idempotency_key", &body.idempotency_key, LONGEST_KEY)?;
    let agent_id = public_key(&body.agent_id)?;
    let scope_id = needed("scope_id", &body.scope_id, LONGEST_SCOPE)?;
    let body = DeclareIntent {
        schema: INTENT_REQUEST.into(),
        idempotency_key,
        agent_id,
        scope_type: body.scope_type,
        scope_id,
        max_sats: body.max_sats,
        exp: body.exp,
        policy_context: None,
        agent_signature: None,
    };
    Ok((body, context))
}

/// What was declared before is answered, whatever has expired or is allowed since.
async fn declare(tx: &mut Tx, declaring: &Declaring) -> Result<Intent, Stop> {
    let Declaring { body, context, intent_id, caller, policy, now, .. } = declaring;
    let fingerprint = receipts::intent_fingerprint(body, context);
    if let Some(known) = table::intent(tx, intent_id).await? {
        return match known.fingerprint == fingerprint {
            true => Ok(known.intent),
            false => {
                let message = "intent idempotency key reused with different intent parameters";
                Err(Refusal::conflict(message).into())
            }
        };
    }
    amount_allowed(body.max_sats, policy)?;
    time_allowed(body.exp, *now, policy)?;
    let digest = caller.owner().map(|owner| claim_sha256(&owner, &fingerprint)).unwrap_or_default();
    let claim = match &declaring.signature {
        Some(signature) => Claim::Signed { digest: &digest, signature },
        None if declaring.lenient => Claim::Word,
        None => Claim::None,
    };
    acts_for(tx, caller, &body.agent_id, claim, *now).await?;
    let intent = Intent {
        intent_id: intent_id.clone(),
        idempotency_key: body.idempotency_key.clone(),
        agent_id: body.agent_id.clone(),
        scope_type: body.scope_type,
        scope_id: body.scope_id.clone(),
        max_sats: body.max_sats,
        exp: body.exp,
        created_at: *now,
    };
    let row = IntentRow { intent: intent.clone(), fingerprint, policy_context: compact(context) };
    table::insert_intent(tx, &row).await?;
    Ok(intent)
}

//! Agent outcome credit (credit-fx §4): a pool pays a provider on an agent's behalf once the work is verified, and the
//! agent owes the pool. Intent → offer → envelope → settlement; each step is one transaction, and paying is reserved
//! before the wallet is asked.

pub mod envelope;
pub mod evidence;
pub mod explain;
pub mod exposure;
pub mod health;
pub mod intent;
pub mod legs;
pub mod lending;
pub mod loans;
pub mod offer;
pub mod payout;
pub mod policy;
pub mod receipts;
pub mod repay;
pub mod settle;
#[cfg(test)]
pub(crate) mod tests;
pub mod underwriting;

use oa_contract::{Caller, Fault, Owner, Refusal, Stop, Timestamp, canonical::canonical_hash, signer};
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, AgentRow, ReceiptRow},
        credit_sums,
    },
};
use serde_json::{Map, Value, json};

pub use policy::CreditPolicy;

use self::{
    receipts::Receipt,
    underwriting::{Inputs, LEAST_HISTORY, Open, Settled},
};
use crate::bridge;

const LONGEST_KEY: usize = 255;
const LONGEST_SCOPE: usize = 512;
const LONGEST_CONTEXT: usize = 16 * 1_024;

/// Everything that happens to an envelope follows each other, but for the end of a payment that is under way.
pub(crate) fn envelope_key(envelope_id: &str) -> Key {
    Key::text("credit_envelope", envelope_id)
}

/// An agent is underwritten by one at a time.
pub(crate) fn agent_key(agent_id: &str) -> Key {
    Key::text("credit_agent", agent_id)
}

fn schema(said: &str, expected: &str) -> Result<(), Refusal> {
    match said.trim() == expected {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("schema must be {expected}"))),
    }
}

/// 64 hex digits, lower-case.
pub(crate) fn public_key(text: &str) -> Result<String, Refusal> {
    let key = text.trim().to_ascii_lowercase();
    match key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(key),
        false => Err(Refusal::invalid("agent_id/pool_id/provider_id must be 64-char hex pubkeys")),
    }
}

fn needed(member: &str, text: &str, longest: usize) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::invalid(format!("{member} is required")));
    }
    match text.len() > longest || text.chars().any(char::is_control) {
        true => Err(Refusal::invalid(format!(
            "{member} must be at most {longest} bytes without control characters"
        ))),
        false => Ok(text.to_owned()),
    }
}

fn amount_allowed(max_sats: u64, policy: &CreditPolicy) -> Result<(), Refusal> {
    let most = policy.max_sats_per_envelope;
    match max_sats {
        0 => Err(Refusal::invalid("max_sats must be > 0")),
        more if more > most => {
            Err(Refusal::invalid(format!("max_sats exceeds max_sats_per_envelope ({most})")))
        }
        _ => Ok(()),
    }
}

fn time_allowed(exp: Timestamp, now: Timestamp, policy: &CreditPolicy) -> Result<(), Refusal> {
    let most = policy.max_offer_ttl_seconds;
    if exp <= now {
        return Err(Refusal::invalid("exp must be in the future"));
    }
    match exp > now.plus_seconds(i64::try_from(most).unwrap_or(i64::MAX)) {
        true => Err(Refusal::invalid(format!("exp exceeds max_offer_ttl_seconds ({most})"))),
        false => Ok(()),
    }
}

/// An object; absent and null are `{}`.
fn context(message: &str, said: Option<Value>) -> Result<Value, Refusal> {
    let context = match said {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object,
        Some(_) => {
            let why = format!("hydra_proto_contract: {message}.policy_context must be a JSON object");
            return Err(Refusal::invalid(why));
        }
    };
    match oa_contract::canonical::compact(&context).len() > LONGEST_CONTEXT {
        true => Err(Refusal::invalid(format!("policy_context must be at most {LONGEST_CONTEXT} bytes"))),
        false => Ok(context),
    }
}

/// Everything that somebody answers for at one time follows each other: limits are about sums.
pub(crate) fn borrower_key(borrower: &str) -> Key {
    Key::text("credit_borrower", borrower)
}

/// Who answers for what an agent draws: its owner, or where it has none, the agent alone.
pub(crate) async fn borrower(tx: &mut Tx, agent_id: &str) -> Result<String, Stop> {
    let owner = table::agent(tx, agent_id).await?.map(|agent| agent.owner_key);
    Ok(owner.unwrap_or_else(|| format!("agent:{agent_id}")))
}

/// How somebody comes to own an agent that is nobody's yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim<'a> {
    /// Not here.
    None,
    /// By being the first to say so: where callers are believed, or where we say it ourselves.
    Word,
    /// By the signature of the agent's key over this digest.
    Signed { digest: &'a str, signature: &'a str },
}

/// What the key of an agent signs to be an owner's.
pub fn claim_sha256(owner: &Owner, intent_sha256: &str) -> String {
    canonical_hash(&json!({
        "schema": "openagents.credit.agent_claim.v1",
        "owner": owner.to_string(),
        "intent_sha256": intent_sha256,
    }))
}

/// A credential that is bound to an owner acts for agents of that owner. Whose an agent is, its own key says: a
/// signature takes it from whoever has it, and what was drawn before stays with whoever has drawn it. The caller of this
/// holds the agent's key where there is a claim.
async fn acts_for(
    tx: &mut Tx,
    caller: &Caller,
    agent_id: &str,
    claim: Claim<'_>,
    now: Timestamp,
) -> Result<(), Stop> {
    let Some(owner) = caller.owner() else { return Ok(()) };
    let owner_key = owner.to_string();
    let known = table::agent(tx, agent_id).await?;
    if known.as_ref().is_some_and(|known| known.owner_key == owner_key) {
        return Ok(());
    }
    match (claim, known.is_some()) {
        (Claim::Signed { digest, signature }, _) => {
            if !signer::verify(agent_id, digest, signature.trim()) {
                let message = "agent_signature is not the agent's over its owner and this intent";
                return Err(Refusal::forbidden(message).into());
            }
        }
        (Claim::Word, false) => {}
        (_, true) => return Err(Refusal::forbidden("agent_id belongs to another owner").into()),
        (Claim::None, false) => {
            let message = "agent_id is nobody's yet: declare an intent with its agent_signature first";
            return Err(Refusal::forbidden(message).into());
        }
    }
    table::put_agent(tx, &AgentRow { agent_id: agent_id.to_owned(), owner_key, claimed_at: now }).await
}

/// What belongs to another owner's agent is as unknown as nothing; what is nobody's, too, unless callers are believed.
async fn visible(tx: &mut Tx, caller: &Caller, agent_id: &str, lenient: bool) -> Result<bool, Stop> {
    let Some(owner) = caller.owner() else { return Ok(true) };
    let known = table::agent(tx, agent_id).await?;
    Ok(known.map_or(lenient, |known| known.owner_key == owner.to_string()))
}

/// What is known of an agent at a moment: read from the log of settlements, so that it can be read again.
async fn inputs(tx: &mut Tx, agent_id: &str, policy: &CreditPolicy, at: Timestamp) -> Result<Inputs, Stop> {
    inputs_since(tx, agent_id, sample_of(policy), since(policy, at), at).await
}

fn since(policy: &CreditPolicy, at: Timestamp) -> Timestamp {
    let days = i64::try_from(policy.underwriting_history_days).unwrap_or(i64::MAX);
    at.plus_seconds(days.saturating_mul(-86_400))
}

/// How many settlements are looked at.
fn sample_of(policy: &CreditPolicy) -> u64 {
    policy.health_settlement_sample_limit.max(LEAST_HISTORY)
}

async fn inputs_since(
    tx: &mut Tx,
    agent_id: &str,
    sample: u64,
    since: Timestamp,
    at: Timestamp,
) -> Result<Inputs, Stop> {
    let history = credit_sums::history(tx, agent_id, since, at, sample).await?;
    let defaults = credit_sums::defaults(tx, agent_id, since, at, sample).await?;
    let open = credit_sums::open_of_agent(tx, agent_id, at).await?;
    let open = Open { count: open.count, sats: open.sats };
    Ok(Inputs { sample, ..Inputs::of(agent_id, since, at, &counted(history), &defaults, open) })
}

fn counted(history: Vec<credit_sums::Settled>) -> Vec<Settled> {
    let settled = |one: credit_sums::Settled| Settled {
        outcome: one.outcome,
        spent_sats: one.spent_sats,
        created_at: one.created_at,
    };
    history.into_iter().map(settled).collect()
}

/// The same of everything that somebody answers for, over all agents. Nothing is open in it: what is, is compared with
/// the limit that comes of this.
async fn inputs_of_borrower(
    tx: &mut Tx,
    borrower: &str,
    policy: &CreditPolicy,
    at: Timestamp,
) -> Result<Inputs, Stop> {
    let (since, sample) = (since(policy, at), sample_of(policy));
    let history = credit_sums::history_of_borrower(tx, borrower, since, at, sample).await?;
    let defaults = credit_sums::defaults_of_borrower(tx, borrower, since, at, sample).await?;
    let none = Open::default();
    Ok(Inputs { sample, ..Inputs::of(borrower, since, at, &counted(history), &defaults, none) })
}

/// When something that counts for underwriting is written down: behind whatever was decided without it.
async fn recorded(tx: &mut Tx, agent_id: &str, now: Timestamp) -> Result<Timestamp, Stop> {
    let decided = table::last_offer_at(tx, agent_id).await?;
    Ok(match decided {
        Some(at) if at > now => Timestamp::from_micros(at.micros() + 1),
        _ => now,
    })
}

/// Keeps a receipt once: the same again changes nothing, another one of its kind is a conflict.
async fn keep_receipt(
    tx: &mut Tx,
    kind: &str,
    id: &str,
    receipt: &Receipt,
    now: Timestamp,
) -> Result<(), Stop> {
    if let Some(known) = table::receipt(tx, kind, id, receipt.schema).await? {
        return match known.sha256 == receipt.sha256 {
            true => Ok(()),
            false => {
                let message = "receipt already exists for entity_kind/entity_id/schema with different digest";
                Err(Refusal::conflict(message).into())
            }
        };
    }
    let row = ReceiptRow {
        entity_kind: kind.to_owned(),
        entity_id: id.to_owned(),
        schema: receipt.schema.to_owned(),
        sha256: receipt.sha256.clone(),
        receipt: written(&receipt.document)?,
        created_at: now,
    };
    table::insert_receipt(tx, &row).await?;
    match receipt.document.get("label_event") {
        Some(label) => bridge::tell_event(tx, label, now).await,
        None => Ok(()),
    }
}

fn written<T: serde::Serialize>(document: &T) -> Result<String, Fault> {
    serde_json::to_string(document).map_err(|error| Fault::new("writing credit", error))
}

fn read_back<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::new("reading kept credit", error))
}

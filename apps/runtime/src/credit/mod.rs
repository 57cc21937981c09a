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
pub mod loans;
pub mod offer;
pub mod payout;
pub mod policy;
pub mod receipts;
pub mod repay;
pub mod settle;
#[cfg(test)]
mod tests;
pub mod underwriting;

use oa_contract::{Caller, Fault, Refusal, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    tables::{
        credit::{self as table, AgentRow, ReceiptRow},
        credit_sums,
    },
};
use serde_json::{Map, Value};

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

/// A credential that is bound to an owner acts for agents of that owner: the first owner to act for a key has it. The
/// caller of this holds the agent's key where `claims`.
async fn acts_for(
    tx: &mut Tx,
    caller: &Caller,
    agent_id: &str,
    claims: bool,
    now: Timestamp,
) -> Result<(), Stop> {
    let Some(owner) = caller.owner() else { return Ok(()) };
    let owner_key = owner.to_string();
    match table::agent(tx, agent_id).await? {
        Some(known) if known.owner_key == owner_key => Ok(()),
        Some(_) => Err(Refusal::forbidden("agent_id belongs to another owner").into()),
        None if claims => {
            table::insert_agent(tx, &AgentRow { agent_id: agent_id.to_owned(), owner_key, claimed_at: now })
                .await
        }
        None => Ok(()),
    }
}

/// What belongs to another owner's agent is as unknown as nothing.
async fn visible(tx: &mut Tx, caller: &Caller, agent_id: &str, now: Timestamp) -> Result<bool, Stop> {
    match acts_for(tx, caller, agent_id, false, now).await {
        Ok(()) => Ok(true),
        Err(Stop::Refusal(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// What is known of an agent at a moment: read from the log of settlements, so that it can be read again.
async fn inputs(tx: &mut Tx, agent_id: &str, policy: &CreditPolicy, at: Timestamp) -> Result<Inputs, Stop> {
    let days = i64::try_from(policy.underwriting_history_days).unwrap_or(i64::MAX);
    let since = at.plus_seconds(days.saturating_mul(-86_400));
    inputs_since(tx, agent_id, policy.health_settlement_sample_limit, since, at).await
}

async fn inputs_since(
    tx: &mut Tx,
    agent_id: &str,
    sample: u64,
    since: Timestamp,
    at: Timestamp,
) -> Result<Inputs, Stop> {
    let limit = sample.max(LEAST_HISTORY);
    let history = credit_sums::history(tx, agent_id, since, at, limit).await?;
    let defaults = credit_sums::defaults(tx, agent_id, since, at, limit).await?;
    let open = credit_sums::open_of_agent(tx, agent_id, at).await?;
    let settled = |one: credit_sums::Settled| Settled {
        outcome: one.outcome,
        spent_sats: one.spent_sats,
        created_at: one.created_at,
    };
    let history: Vec<_> = history.into_iter().map(settled).collect();
    let open = Open { count: open.count, sats: open.sats };
    Ok(Inputs::of(agent_id, since, at, &history, &defaults, open))
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

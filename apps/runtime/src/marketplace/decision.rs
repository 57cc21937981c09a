//! Decides how a choice enters a run's log: once under its key, with its answer beside it. The same request is
//! answered with what was answered first; another one under the same key is refused.

use oa_contract::{
    Caller, Code, Fault, Owner, Refusal, Stop, Timestamp, canonical::compact, wire::runs::Actor,
};
use oa_store::{
    Tx,
    idempotency::{self, Known},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::{
    Runtime,
    runs::{
        JSON_LIMIT_BYTES,
        log::{self, Entry},
        visible_head,
    },
};

/// The longest key that is kept.
const LONGEST_KEY: usize = 255;

/// A choice that was made, and what it is answered with.
pub struct Decision<R> {
    /// Which lane's keys these are.
    pub lane: &'static str,
    pub run_id: Uuid,
    pub caller: Caller,
    /// Whose run it has to be, where the request says so.
    pub owner: Option<Owner>,
    pub key: String,
    /// Of what was asked.
    pub fingerprint: [u8; 32],
    pub receipt_type: &'static str,
    pub payload: Value,
    pub reply: R,
    pub now: Timestamp,
}

/// Trimmed and short enough.
pub fn key(said: &str) -> Result<String, Refusal> {
    let key = said.trim();
    match key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
        true => Err(Refusal::invalid(format!(
            "idempotency_key must be at most {LONGEST_KEY} bytes without control characters"
        ))),
        false => {
            log::not_reserved(key)?;
            Ok(key.to_owned())
        }
    }
}

impl Runtime {
    /// Whether receipts over what is about to be done will be believed.
    pub(crate) fn can_prove(&self) -> Result<(), Refusal> {
        self.verifier.check_signer(self.signer.as_ref()).map_err(|why| Refusal::new(Code::Internal, why))
    }
}

/// Writes a choice down, or finds the first one. The caller holds the key of the run.
pub async fn record<R: Serialize + DeserializeOwned + Clone>(
    tx: &mut Tx,
    decision: &Decision<R>,
) -> Result<R, Stop> {
    let head = visible_head(tx, decision.run_id, &decision.caller).await?;
    let theirs = |owner: &Owner| head.owner_key.as_ref().is_none_or(|key| *key == owner.to_string());
    if !decision.owner.as_ref().is_none_or(theirs) {
        return Err(Refusal::not_found(format!("no run {}", decision.run_id)).into());
    }
    let scope = format!("{}:{}", decision.lane, decision.run_id);
    match idempotency::find(tx, &scope, &decision.key, &decision.fingerprint).await? {
        Known::Fresh => {}
        Known::Mismatch => {
            return Err(Refusal::conflict("idempotency key reused with different request").into());
        }
        Known::Replay { reply, .. } => {
            return Ok(
                serde_json::from_str(&reply).map_err(|error| Fault::new("reading a kept answer", error))?
            );
        }
    }
    let entry = entry(decision)?;
    log::append(tx, head, &entry, decision.now).await?;
    let reply =
        serde_json::to_string(&decision.reply).map_err(|error| Fault::new("writing an answer", error))?;
    let fingerprint = &decision.fingerprint;
    idempotency::keep(tx, &scope, &decision.key, fingerprint, 200, &reply, decision.now).await?;
    Ok(decision.reply.clone())
}

fn entry<R>(decision: &Decision<R>) -> Result<Entry, Stop> {
    let payload = json!({"receipt_type": decision.receipt_type, "payload": decision.payload});
    let text = compact(&payload);
    if text.len() > JSON_LIMIT_BYTES {
        let message =
            format!("the decision is {} bytes, and at most {JSON_LIMIT_BYTES} are kept", text.len());
        return Err(Refusal::invalid(message).into());
    }
    Ok(Entry {
        event_type: "receipt".into(),
        payload: RawValue::from_string(text).map_err(|error| Fault::new("writing a decision", error))?,
        idempotency_key: Some(decision.key.clone()),
        actor: Actor::Service,
    })
}

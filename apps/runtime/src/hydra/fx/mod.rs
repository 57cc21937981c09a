//! Exchange between assets (credit-fx §9): a request for quotes, quotes, the choice of one by policy, its
//! settlement. A request moves open → quoted → selected → settled, withheld or expired, and every step is one
//! transaction under the request's key.

pub mod accounts;
pub mod get;
pub mod legs;
pub mod policy;
pub mod quote;
pub mod rate;
pub mod rates;
pub mod rfq;
pub mod score;
pub mod select;
pub mod settle;
#[cfg(test)]
mod tests;

use oa_contract::{
    Caller, Fault, Owner, Refusal, Stop, Timestamp, canonical,
    wire::fx::{FxMoney, Rfq, RfqReply, RfqStatus},
};
use oa_store::{
    Key, Tx,
    tables::fx::{self as table, KeyRow, RfqRow},
};
use serde_json::Value;

pub use policy::FxPolicy;

/// The longest ids, names and keys that are kept, in bytes.
const LONGEST_NAME: usize = 255;
/// The longest free document, in bytes.
const LONGEST_CONTEXT: usize = 16 * 1024;
/// The largest amount that a column keeps.
const MOST_UNITS: u64 = i64::MAX as u64;

/// Everything that happens to a request follows each other.
pub(crate) fn key(rfq_id: &str) -> Key {
    Key::text("fx", rfq_id)
}

pub(crate) fn unix(now: Timestamp) -> u64 {
    u64::try_from(now.unix_seconds()).unwrap_or_default()
}

/// A request whose time is over is expired, whether or not somebody has come by to write it down.
pub(crate) fn standing(row: &RfqRow, now_unix: u64) -> RfqStatus {
    match row.status {
        RfqStatus::Open | RfqStatus::Quoted | RfqStatus::Selected if row.rfq.expires_at_unix <= now_unix => {
            RfqStatus::Expired
        }
        status => status,
    }
}

pub(super) fn shown(row: &RfqRow, now_unix: u64) -> RfqReply {
    let rfq = Rfq {
        status: standing(row, now_unix),
        quotes_total: row.quotes,
        selected_quote_id: row.selected_quote_id.clone(),
        settlement_id: row.settlement_id.clone(),
        ..row.rfq.clone()
    };
    RfqReply { schema: "openagents.hydra.fx_rfq_response.v1".into(), rfq }
}

/// A request that the caller may choose for, settle and see: its own. Another's is as unknown as none.
pub(super) async fn own(tx: &mut Tx, rfq_id: &str, caller: &Caller) -> Result<RfqRow, Stop> {
    let unknown = || Refusal::not_found("no such request for quotes");
    let row = table::rfq(tx, rfq_id).await?.ok_or_else(unknown)?;
    match caller.owner().is_none_or(|owner| owner.to_string() == row.rfq.requester_id) {
        true => Ok(row),
        false => Err(unknown().into()),
    }
}

pub(super) fn schema(said: &str, expected: &str) -> Result<(), Refusal> {
    match said.trim() == expected {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("schema must be {expected}"))),
    }
}

/// Trimmed, not blank, and short enough to be kept.
pub(super) fn named(member: &str, said: &str) -> Result<String, Refusal> {
    let said = said.trim();
    if said.is_empty() {
        return Err(Refusal::invalid(format!("{member} must not be empty")));
    }
    match said.len() > LONGEST_NAME || said.chars().any(char::is_control) {
        true => Err(Refusal::invalid(format!(
            "{member} must be at most {LONGEST_NAME} bytes without control characters"
        ))),
        false => Ok(said.to_owned()),
    }
}

/// A name that could be taken for an owner's is one, in the one way that an owner is written.
pub(super) fn spelt_as_owner(member: &str, name: &str) -> Result<(), Refusal> {
    match Owner::misspelt(name) {
        true => {
            Err(Refusal::invalid(format!("{member} is written user:<number> or guest:<scope> for an owner")))
        }
        false => Ok(()),
    }
}

pub(super) fn bounded(member: &str, document: &Value) -> Result<(), Refusal> {
    match canonical::compact(document).len() > LONGEST_CONTEXT {
        true => Err(Refusal::invalid(format!("{member} must be at most {LONGEST_CONTEXT} bytes"))),
        false => Ok(()),
    }
}

pub(super) fn money(said: &FxMoney) -> FxMoney {
    FxMoney {
        asset: said.asset.trim().to_uppercase(),
        amount: said.amount,
        unit: said.unit.trim().to_owned(),
    }
}

/// A key of an operation: whose it is, and what was asked under it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub operation: &'static str,
    pub principal: String,
    pub key: String,
    pub fingerprint: String,
    /// What is told whoever asks for something else under it.
    pub conflict: &'static str,
}

impl Asked {
    pub(super) fn lock(&self) -> Key {
        Key::text("fx_key", format!("{}/{}/{}", self.operation, self.principal, self.key))
    }

    /// What was made under the key, if this was asked before.
    pub(super) async fn known(&self, tx: &mut Tx) -> Result<Option<KeyRow>, Stop> {
        match table::key(tx, self.operation, &self.principal, &self.key).await? {
            Some(known) if known.fingerprint != self.fingerprint => {
                Err(Refusal::conflict(self.conflict).into())
            }
            known => Ok(known),
        }
    }

    pub(super) async fn keep(
        &self,
        tx: &mut Tx,
        subject: &str,
        reply: Option<String>,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let row = KeyRow {
            operation: self.operation.to_owned(),
            principal: self.principal.clone(),
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            subject: subject.to_owned(),
            reply,
            kept_at: now,
        };
        table::insert_key(tx, &row).await
    }
}

/// Whose keys a caller's are.
pub(super) fn principal(caller: &Caller) -> String {
    caller.owner().map_or_else(String::new, |owner| owner.to_string())
}

pub(super) fn written<T: serde::Serialize>(reply: &T) -> Result<String, Fault> {
    serde_json::to_string(reply).map_err(|error| Fault::new("writing an answer", error))
}

pub(super) fn read_back<T: serde::de::DeserializeOwned>(reply: &str) -> Result<T, Fault> {
    serde_json::from_str(reply).map_err(|error| Fault::new("reading a kept answer", error))
}

pub(super) fn value<T: serde::Serialize>(document: &T) -> Result<Value, Fault> {
    serde_json::to_value(document).map_err(|error| Fault::new("writing an exchange", error))
}

//! `POST /admin/v1/credit/repay`: an owner pays what an agent owes for one settlement, all of it or a part.

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop, Timestamp, canonical,
    matrix::CreditRepay,
    wire::credit::{LoanReply, Repay},
};
use oa_store::{
    Key, Tx,
    idempotency::{self, Known},
    tables::credit_sums,
};
use serde_json::json;

use super::{LONGEST_KEY, loans, needed, read_back, written};
use crate::Runtime;

const KEYS: &str = "credit.repay";

struct Paying {
    settlement_id: String,
    owner: Owner,
    amount_msats: Option<u64>,
    key: String,
    fingerprint: [u8; 32],
    now: Timestamp,
}

impl Handle<CreditRepay> for Runtime {
    async fn handle(&self, ask: Ask<CreditRepay>) -> Result<Answer<LoanReply>, Stop> {
        let Repay { settlement_id, owner_user_id, owner_guest_scope, amount_msats, idempotency_key } =
            ask.body;
        let owner = Owner::from_parts(owner_user_id, owner_guest_scope.as_deref())?;
        let settlement_id = needed("settlement_id", &settlement_id, LONGEST_KEY)?;
        let key = needed("idempotency_key", &idempotency_key, LONGEST_KEY)?;
        if amount_msats == Some(0) {
            return Err(Refusal::invalid("amount_msats must be greater than zero").into());
        }
        let content = json!([settlement_id, owner.to_string(), amount_msats]);
        let fingerprint = canonical::canonical_digest(&content);
        let keys = [loans::key(&settlement_id), Key::text(KEYS, key.as_str())];
        let paying = Paying { settlement_id, owner, amount_msats, key, fingerprint, now: self.now() };
        Ok(self.store.write("credit.repay", keys, paying, repay).await?.into())
    }
}

async fn repay(tx: &mut Tx, paying: &Paying) -> Result<LoanReply, Stop> {
    match idempotency::find(tx, KEYS, &paying.key, &paying.fingerprint).await? {
        Known::Fresh => {}
        Known::Mismatch => {
            return Err(Refusal::conflict("idempotency_key already used for another repayment").into());
        }
        Known::Replay { reply, .. } => return Ok(read_back(&reply)?),
    }
    let row = credit_sums::loan(tx, &paying.settlement_id).await?.ok_or_else(loans::no_loan)?;
    let owed = row.owed();
    let msats = paying.amount_msats.unwrap_or(owed);
    if owed == 0 {
        return Err(Refusal::conflict("everything is repaid already").into());
    }
    if msats > owed {
        return Err(Refusal::invalid(format!("amount_msats must be at most {owed}, which is owed")).into());
    }
    let row = loans::pay(tx, row, &paying.owner, msats, paying.now).await?;
    let reply = loans::shown(tx, &row).await?;
    let text = written(&reply).map_err(|error| Fault::new("keeping a repayment", error))?;
    idempotency::keep(tx, KEYS, &paying.key, &paying.fingerprint, 200, &text, paying.now).await?;
    Ok(reply)
}

//! Decides that a question of codex for permission gets one decision: the first counts, the same again changes nothing,
//! another one is refused.

use oa_contract::{Refusal, Stop};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Approval},
};

use super::key_of;

/// Remembers that a question was asked; asked again it stays as it stands.
pub async fn ask(tx: &mut Tx, worker_id: &str, approval_id: &str, seq: u64) -> Result<(), Stop> {
    let approval_key = key_of(approval_id);
    if rows::approval(tx, worker_id, &approval_key).await?.is_some() {
        return Ok(());
    }
    let approval = Approval {
        worker_id: worker_id.to_owned(),
        approval_key,
        approval_id: approval_id.to_owned(),
        asked_seq: seq,
        decided: None,
    };
    rows::put_approval(tx, &approval).await
}

/// What a decision meets.
pub enum Meets {
    /// A question that nobody answered.
    Open(Approval),
    /// The same decision, taken before as the event of this number.
    Itself(u64),
}

pub async fn meet(tx: &mut Tx, worker_id: &str, approval_id: &str, decision: &str) -> Result<Meets, Stop> {
    let approval = rows::approval(tx, worker_id, &key_of(approval_id)).await?.ok_or_else(|| {
        let message = format!("this worker never asked for permission under {approval_id:?}");
        Refusal::field("event.payload.approval_id", message)
    })?;
    match &approval.decided {
        None => Ok(Meets::Open(approval)),
        Some((before, seq)) if before == decision => Ok(Meets::Itself(*seq)),
        Some((before, seq)) => {
            let message = format!("event {seq} decided {before:?} already; a question has one decision");
            Err(Refusal::conflict(message).into())
        }
    }
}

pub async fn decide(tx: &mut Tx, approval: Approval, decision: &str, seq: u64) -> Result<(), Stop> {
    rows::put_approval(tx, &Approval { decided: Some((decision.to_owned(), seq)), ..approval }).await
}

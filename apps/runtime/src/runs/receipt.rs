//! Decides what a receipt says: computed from the log as it is, signed, and checked before it leaves
//! (runtime-core §9.4, §10.1).

use std::ops::ControlFlow;

use oa_contract::{
    Answer, Ask, Caller, Code, Handle, Refusal, Stop,
    matrix::RunsReceipt,
    operation::Cacheable,
    receipt::{Receipt, ReceiptBuilder},
};
use oa_store::{Tx, tables::runs as table};
use uuid::Uuid;

use super::{row, visible_head};
use crate::Runtime;

struct Look {
    run_id: Uuid,
    caller: Caller,
    /// The tag that the caller has; the log is not read when it still holds.
    known_tag: Option<String>,
    tag_suffix: String,
}

enum Found {
    Unchanged { tag: String },
    Built { tag: String, receipt: Box<ReceiptBuilder> },
}

impl Handle<RunsReceipt> for Runtime {
    async fn handle(&self, ask: Ask<RunsReceipt>) -> Result<Answer<Cacheable<Receipt>>, Stop> {
        let known_tag = ask.meta.header("if-none-match").map(str::to_owned);
        let look =
            Look { run_id: ask.path.run_id, caller: ask.caller, known_tag, tag_suffix: self.tag_suffix() };
        match self.store.read("runs.receipt", look, build).await? {
            Found::Unchanged { tag } => {
                Ok(Answer::new(Cacheable::Unchanged).with_status(304).with_header("etag", tag))
            }
            Found::Built { tag, receipt } => {
                let receipt = receipt.finish(self.signer.as_ref())?;
                // A receipt that would not be believed is not given out; the sentence is the specified one.
                self.verifier.check(&receipt).map_err(|why| Refusal::new(Code::Internal, why))?;
                Ok(Answer::new(Cacheable::Fresh(receipt)).with_header("etag", tag))
            }
        }
    }
}

impl Runtime {
    /// Another key signs another receipt, and another policy believes other ones.
    fn tag_suffix(&self) -> String {
        let signer =
            self.signer.as_ref().map_or_else(|| "unsigned".to_owned(), |signer| signer.public_key_hex());
        let policy = oa_contract::canonical::sha256_prefixed(&format!(
            "{signer} {} {:?}",
            self.verifier.strict, self.verifier.active_signers
        ));
        policy.chars().skip("sha256:".len()).take(16).collect()
    }
}

async fn build(tx: &mut Tx, look: &Look) -> Result<Found, Stop> {
    let head = visible_head(tx, look.run_id, &look.caller).await?;
    let tag = format!("\"{}-{}\"", head.chain, look.tag_suffix);
    if look.known_tag.as_deref().is_some_and(|known| {
        known == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
    }) {
        return Ok(Found::Unchanged { tag });
    }
    let run = row(tx, look.run_id).await?;
    let mut receipt = ReceiptBuilder::new(run.run_id, &run.metadata, run.created_at);
    table::visit(tx, &head, |event| match receipt.push(event) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(malformed) => Err(Refusal::new(Code::Internal, malformed.to_string()).into()),
    })
    .await?;
    Ok(Found::Built { tag, receipt: Box::new(receipt) })
}

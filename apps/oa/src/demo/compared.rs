//! Chapter: the treasury compares what it settled with the ledger, with the run, and with what the wallet says of itself.

use oa_contract::{
    Nothing,
    matrix::TreasuryComputeReconcile,
    operation::Call,
    wire::treasury::{DriftReport, Reconcile},
};
use serde_json::json;

use super::{Stage, book::Book};
use crate::failure::Failure;

/// Each call compares a portion; the demonstration's books are smaller than one.
const CALLS: u32 = 20;

pub async fn all(stage: &Stage<'_>, book: &mut Book) -> Result<(), Failure> {
    book.chapter("The treasury compares ledger, run and wallet")?;
    let before = compare(stage).await?;
    let (mut after, mut jobs) = (before.clone(), before.compared_jobs);
    for _ in 0..CALLS {
        if after.rounds > before.rounds {
            break;
        }
        after = compare(stage).await?;
        // A call that ends a round may have had nothing left.
        jobs = jobs.max(after.compared_jobs);
    }
    let findings: Vec<String> = after
        .findings
        .iter()
        .map(|one| format!("{}: {} ({})", one.settlement_id, one.detail, one.kind))
        .collect();
    if after.rounds == before.rounds || !findings.is_empty() {
        return Err(Failure::wrong(format!("the treasury's comparison: {}", findings.join("; "))));
    }
    book.indented(&format!(
        "{jobs} settlements, each with its transfers and what the run tells of it: nothing differs"
    ))?;
    book.indented(&format!("what left the wallet: {}, nothing differs", after.wallet_receipts))?;
    book.keep("compared", json!(after));
    Ok(())
}

async fn compare(stage: &Stage<'_>) -> Result<DriftReport, Failure> {
    let body = Reconcile::default();
    let call = Call::<TreasuryComputeReconcile> { path: Nothing {}, query: Nothing {}, body };
    Ok(stage.talk.asked(&call).await?.drift)
}

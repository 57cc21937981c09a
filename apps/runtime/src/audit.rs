//! Decides whether the log and the ledger are whole: reads every run from its first event to its last, recomputes
//! what was made of it, and adds every account up again. This is what `oa verify-store` does beyond the store's own check.

use std::ops::ControlFlow;

use oa_contract::Stop;
use oa_store::{
    Store, Tx,
    tables::{
        ledger_audit::{self, Cursor, Looked},
        runs::{self as table, Listed},
    },
};
use uuid::Uuid;

use crate::projectors::recomputed;

/// Runs in one read.
const PAGE: u64 = 100;
/// Rows of the ledger in one read.
const PORTION: u32 = 1_000;

/// What was looked at, and what does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    pub runs: u64,
    pub events: u64,
    /// Accounts, entries and transfers.
    pub ledger_rows: u64,
    /// One sentence each.
    pub findings: Vec<String>,
}

/// Reads every run; tells `progress` how far it has come.
pub async fn audit(store: &Store, mut progress: impl FnMut(&Audit)) -> Result<Audit, Stop> {
    let mut audit = Audit::default();
    let mut before = None;
    loop {
        let page = store.read("audit.list", before, list).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.run.run_id);
        for listed in page {
            audit.runs += 1;
            match store.read("audit.run", listed.run.run_id, examine).await {
                Ok(Examined { events, finding }) => {
                    audit.events += events;
                    audit.findings.extend(finding);
                }
                // A fault is what a damaged row gives; it belongs to this run only.
                Err(Stop::Fault(fault)) => audit.findings.push(format!("run {}: {fault}", listed.run.run_id)),
                Err(stop) => return Err(stop),
            }
            progress(&audit);
        }
    }
    let mut cursor = Some(Cursor::thorough());
    while let Some(from) = cursor {
        let Looked { rows, findings, next } = match store.read("audit.ledger", from, look).await {
            Ok(looked) => looked,
            // A damaged row hides what lies behind it; the check of seals has named it.
            Err(Stop::Fault(fault)) => {
                audit.findings.push(format!("the ledger: {fault}"));
                break;
            }
            Err(stop) => return Err(stop),
        };
        audit.ledger_rows += u64::from(rows);
        audit.findings.extend(findings.iter().map(|finding| format!("the ledger: {finding}")));
        cursor = next;
        progress(&audit);
    }
    Ok(audit)
}

async fn look(tx: &mut Tx, from: &Cursor) -> Result<Looked, Stop> {
    ledger_audit::look(tx, from, PORTION).await
}

async fn list(tx: &mut Tx, before: &Option<Uuid>) -> Result<Vec<Listed>, Stop> {
    table::list(tx, None, None, *before, PAGE).await
}

struct Examined {
    events: u64,
    finding: Option<String>,
}

/// Every event fits the chain, the last one is the head's, and the projection says what the log says.
async fn examine(tx: &mut Tx, run_id: &Uuid) -> Result<Examined, Stop> {
    let Some(head) = table::head(tx, *run_id).await? else {
        return Ok(Examined { events: 0, finding: Some(format!("run {run_id} has no head")) });
    };
    let mut events = 0;
    table::visit(tx, &head, |_| {
        events += 1;
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    let drifted = recomputed(tx, &head).await? != head.projected;
    let finding = drifted.then(|| format!("run {run_id}: the projection does not say what the log says; rebuild it with POST /admin/v1/projectors/{run_id}/rebuild"));
    Ok(Examined { events, finding })
}

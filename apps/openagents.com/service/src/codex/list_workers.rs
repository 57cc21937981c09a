//! Decides which workers a caller sees: the caller's own, the last changed first (control §14.3).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::CodexListWorkers,
    wire::{codex::CodexWorkerList, workers::WorkerStatus},
};
use oa_store::{
    Tx,
    tables::codex::{self as rows, Filter, Worker},
};

use super::{opt_str, snapshot};
use crate::{
    Control,
    identity::signed_in,
    threads::{before, cursor},
};

impl Handle<CodexListWorkers> for Control {
    async fn handle(&self, ask: Ask<CodexListWorkers>) -> Result<Answer<CodexWorkerList>, Stop> {
        let query = ask.query;
        let filter = Filter {
            user_id: signed_in(&ask.caller)?.user_id.clone(),
            status: status(query.status.as_deref())?,
            workspace_ref: opt_str("workspace_ref", query.workspace_ref.as_deref(), 255)?,
            before: before(query.before.as_deref())?,
        };
        let limit = query.limit.unwrap_or(50).clamp(1, 200);
        let limit = u32::try_from(limit).unwrap_or(200);
        let mut workers = self.store.read("codex.list_workers", (filter, limit + 1), read).await?;
        let more = workers.len() > limit as usize;
        workers.truncate(limit as usize);
        let next = workers.last().filter(|_| more).map(|last| cursor(last.updated_at, &last.worker_id));
        let now = self.clock.now();
        let data = workers.iter().map(|worker| snapshot(worker, now)).collect();
        Ok(CodexWorkerList { data, next }.into())
    }
}

fn status(text: Option<&str>) -> Result<Option<WorkerStatus>, Refusal> {
    let Some(text) = text.map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let status = WorkerStatus::parse(&text);
    status.map(Some).ok_or_else(|| {
        Refusal::field("status", "status must be one of starting, running, stopping, stopped, failed")
    })
}

async fn read(tx: &mut Tx, (filter, limit): &(Filter, u32)) -> Result<Vec<Worker>, Stop> {
    rows::workers(tx, filter, *limit).await
}

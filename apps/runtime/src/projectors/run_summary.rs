//! Decides what is answered as a run in one line (runtime-core §11).

use oa_contract::{
    Answer, Ask, Caller, Handle, Stop, matrix::ProjectorsRunSummary, wire::projectors::RunSummaryReply,
};
use oa_store::Tx;
use uuid::Uuid;

use super::summary;
use crate::{Runtime, runs::visible_head};

impl Handle<ProjectorsRunSummary> for Runtime {
    async fn handle(&self, ask: Ask<ProjectorsRunSummary>) -> Result<Answer<RunSummaryReply>, Stop> {
        Ok(self.store.read("projectors.run_summary", (ask.path.run_id, ask.caller), read).await?.into())
    }
}

async fn read(tx: &mut Tx, (run_id, caller): &(Uuid, Caller)) -> Result<RunSummaryReply, Stop> {
    let head = visible_head(tx, *run_id, caller).await?;
    Ok(RunSummaryReply { summary: summary(*run_id, &head.projected) })
}

//! Decides which runs a caller sees in a list: their own, or all of them for an operator; newest first.

use oa_contract::{
    Answer, Ask, Handle, Owner, Stop,
    matrix::RunsList,
    wire::runs::{ListRuns, RunLine, RunList},
};
use oa_store::{
    Tx,
    tables::runs::{self as table, Listed},
};

use crate::Runtime;

struct Look {
    owner: Option<String>,
    query: ListRuns,
}

impl Handle<RunsList> for Runtime {
    async fn handle(&self, ask: Ask<RunsList>) -> Result<Answer<RunList>, Stop> {
        let look = Look { owner: ask.caller.owner().as_ref().map(Owner::to_string), query: ask.query };
        Ok(self.store.read("runs.list", look, read).await?.into())
    }
}

async fn read(tx: &mut Tx, look: &Look) -> Result<RunList, Stop> {
    let limit = look.query.limit.unwrap_or(50).clamp(1, 200);
    let listed = table::list(tx, look.owner.as_deref(), look.query.status, look.query.before, limit).await?;
    let full = listed.len() as u64 == limit;
    let next = listed.last().filter(|_| full).map(|last| last.run.run_id);
    Ok(RunList { runs: listed.into_iter().map(line).collect(), next })
}

fn line(listed: Listed) -> RunLine {
    RunLine {
        id: listed.run.run_id,
        worker_id: listed.run.worker_id,
        status: listed.status,
        latest_seq: listed.latest_seq,
        metadata: listed.run.metadata,
        created_at: listed.run.created_at,
        updated_at: listed.updated_at,
    }
}

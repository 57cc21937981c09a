//! Decides what of a run is shown: the run with all its events, or with a window of them (runtime-core §9.4).

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop,
    matrix::RunsGet,
    wire::runs::{EventWindow, Run, RunReply},
};
use oa_store::{Tx, tables::runs as table};
use uuid::Uuid;

use super::{WHOLE_RUN_EVENTS, row, view, visible_head};
use crate::Runtime;

/// Which run, for whom, and which of its events.
pub struct Look {
    pub run_id: Uuid,
    pub caller: Caller,
    pub window: EventWindow,
}

impl Handle<RunsGet> for Runtime {
    async fn handle(&self, ask: Ask<RunsGet>) -> Result<Answer<RunReply>, Stop> {
        let look = Look { run_id: ask.path.run_id, caller: ask.caller, window: ask.query };
        let run = self.store.read("runs.get", look, read).await?;
        Ok(RunReply { run }.into())
    }
}

/// The run at this moment.
pub async fn read(tx: &mut Tx, look: &Look) -> Result<Run, Stop> {
    let head = visible_head(tx, look.run_id, &look.caller).await?;
    let after = look.window.after.unwrap_or(0);
    let limit = look.window.limit.unwrap_or(u64::MAX);
    let wanted = limit.min(head.latest_seq.saturating_sub(after));
    if wanted > WHOLE_RUN_EVENTS {
        let message = format!(
            "{wanted} events are too many for one answer: ask for at most {WHOLE_RUN_EVENTS} with ?after=SEQ&limit=N, or follow the run's stream"
        );
        return Err(Refusal::invalid(message).into());
    }
    let events = table::events_after(tx, &head, after, wanted).await?;
    Ok(view(row(tx, look.run_id).await?, &head, events))
}

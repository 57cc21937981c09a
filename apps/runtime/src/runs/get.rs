//! Decides what of a run is shown: the run with all its events, or with a window of them (runtime-core §9.4).

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop,
    matrix::RunsGet,
    wire::runs::{EventWindow, Run, RunEvent, RunReply},
};
use oa_store::{
    Tx,
    tables::runs::{self as table, Head},
};
use uuid::Uuid;

use super::{WHOLE_RUN_EVENTS, row, view, visible_head};
use crate::Runtime;

/// Payloads of one answer.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
const PAGE: u64 = 256;

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
    let events = bounded(tx, &head, after, wanted).await?;
    Ok(view(row(tx, look.run_id).await?, &head, events))
}

/// The events, page by page, as long as one answer can hold them.
async fn bounded(tx: &mut Tx, head: &Head, after: u64, wanted: u64) -> Result<Vec<RunEvent>, Stop> {
    let (mut events, mut bytes) = (Vec::<RunEvent>::new(), 0);
    while (events.len() as u64) < wanted {
        let next = after + events.len() as u64;
        for event in table::events_after(tx, head, next, PAGE.min(wanted - events.len() as u64)).await? {
            bytes += event.payload.get().len();
            events.push(event);
        }
        if bytes > ANSWER_BYTES {
            let message = format!(
                "the events after {after} are more than {ANSWER_BYTES} bytes: ask for fewer with ?after=SEQ&limit=N, or follow the run's stream"
            );
            return Err(Refusal::invalid(message).into());
        }
    }
    Ok(events)
}

//! Decides how a worker ends at its owner's word: whatever it was still asked is answered for it, then it is stopped
//! (control §14.2).

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::CodexStop,
    operation::Data,
    wire::{
        codex::{StoppedCodexWorker, StoppedCodexWorkerReply},
        workers::WorkerStatus,
    },
};
use oa_store::{
    Tx,
    tables::codex::{self as rows},
};
use serde_json::json;

use super::{log, opt_str, owned, receipt, save, state, worker_id};
use crate::{Control, identity::signed_in};

impl Handle<CodexStop> for Control {
    async fn handle(&self, ask: Ask<CodexStop>) -> Result<Answer<StoppedCodexWorkerReply>, Stop> {
        let asked = Asked {
            user_id: signed_in(&ask.caller)?.user_id.clone(),
            worker_id: worker_id(&ask.path.worker_id)?,
            reason: opt_str("reason", ask.body.reason.as_deref(), 255)?,
            now: self.clock.now(),
            keep: self.config.codex.event_retention,
        };
        let (key, worker_id) = (rows::key(&asked.worker_id), asked.worker_id.clone());
        let (seq, replay) = self.store.write("codex.stop", key, asked, stop).await?;
        let data = StoppedCodexWorker {
            worker_id,
            status: WorkerStatus::Stopped,
            seq,
            idempotent_replay: replay,
            idempotent_replay_camel: replay,
        };
        Ok(Data { data }.into())
    }
}

struct Asked {
    user_id: String,
    worker_id: String,
    reason: Option<String>,
    now: Timestamp,
    keep: u64,
}

/// The number of the last event, and whether the worker was stopped already.
async fn stop(tx: &mut Tx, asked: &Asked) -> Result<(u64, bool), Stop> {
    let mut worker = owned(tx, &asked.worker_id, &asked.user_id).await?;
    if worker.status == WorkerStatus::Stopped {
        return Ok((worker.latest_seq, true));
    }
    receipt::end_all(tx, &mut worker, "the worker was stopped before it answered", asked.now, asked.keep)
        .await?;
    let payload = json!({"reason": asked.reason.as_deref().unwrap_or("requested")});
    let event = log::append_own(tx, &mut worker, state::STOPPED, &payload, asked.now, asked.keep).await?;
    state::enter(&mut worker, WorkerStatus::Stopped, asked.now);
    worker.stopped_at = Some(asked.now);
    save(tx, &mut worker).await?;
    Ok((event.seq, false))
}

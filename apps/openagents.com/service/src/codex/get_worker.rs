//! Decides what the owner of a worker sees of it (control §14.1).

use oa_contract::{
    Answer, Ask, Handle, Stop, matrix::CodexGetWorker, operation::Data, wire::codex::CodexWorkerReply,
};
use oa_store::{Tx, tables::codex::Worker};

use super::{owned, snapshot, worker_id};
use crate::{Control, identity::signed_in};

impl Handle<CodexGetWorker> for Control {
    async fn handle(&self, ask: Ask<CodexGetWorker>) -> Result<Answer<CodexWorkerReply>, Stop> {
        let user_id = signed_in(&ask.caller)?.user_id.clone();
        let worker_id = worker_id(&ask.path.worker_id)?;
        let worker = self.store.read("codex.get_worker", (worker_id, user_id), read).await?;
        Ok(Data { data: snapshot(&worker, self.clock.now()) }.into())
    }
}

async fn read(tx: &mut Tx, (worker_id, user_id): &(String, String)) -> Result<Worker, Stop> {
    owned(tx, worker_id, user_id).await
}

//! Decides what is answered about how far the projection of a run has come (runtime-core §11).

use oa_contract::{
    Answer, Ask, Caller, Handle, Stop, matrix::ProjectorsCheckpoint, wire::projectors::CheckpointReply,
};
use oa_store::Tx;
use uuid::Uuid;

use super::checkpoint;
use crate::{Runtime, runs::visible_head};

impl Handle<ProjectorsCheckpoint> for Runtime {
    async fn handle(&self, ask: Ask<ProjectorsCheckpoint>) -> Result<Answer<CheckpointReply>, Stop> {
        Ok(self.store.read("projectors.checkpoint", (ask.path.run_id, ask.caller), read).await?.into())
    }
}

async fn read(tx: &mut Tx, (run_id, caller): &(Uuid, Caller)) -> Result<CheckpointReply, Stop> {
    let head = visible_head(tx, *run_id, caller).await?;
    Ok(CheckpointReply { checkpoint: checkpoint(*run_id, &head.projected) })
}

//! Decides that the log is right: recomputes a run's projection from it and puts it in the place of the stored
//! one (runtime-core §23.7).

use oa_contract::{
    Answer, Ask, Caller, Handle, Stop,
    matrix::ProjectorsRebuild,
    projection,
    wire::projectors::{DriftStatus, RebuildReply},
};
use oa_store::{
    Tx,
    tables::{drifts, runs as table},
};
use uuid::Uuid;

use super::{recomputed, summary};
use crate::{Runtime, runs};

impl Handle<ProjectorsRebuild> for Runtime {
    async fn handle(&self, ask: Ask<ProjectorsRebuild>) -> Result<Answer<RebuildReply>, Stop> {
        let run_id = ask.path.run_id;
        Ok(self
            .store
            .write("projectors.rebuild", runs::key(run_id), (run_id, ask.caller), rebuild)
            .await?
            .into())
    }
}

async fn rebuild(tx: &mut Tx, (run_id, caller): &(Uuid, Caller)) -> Result<RebuildReply, Stop> {
    let mut head = runs::visible_head(tx, *run_id, caller).await?;
    let fresh = recomputed(tx, &head).await?;
    let repaired = fresh != head.projected;
    head.projected = fresh;
    if repaired {
        table::update_head(tx, &head).await?;
    }
    resolve(tx, &projection::run_topic(*run_id)).await?;
    Ok(RebuildReply { summary: summary(*run_id, &head.projected), repaired })
}

/// An open report is resolved once the projection says again what the log says.
pub async fn resolve(tx: &mut Tx, topic: &str) -> Result<(), Stop> {
    match drifts::get(tx, topic).await? {
        Some(row) if row.status == DriftStatus::Open => {
            drifts::put(tx, &drifts::DriftRow { status: DriftStatus::Resolved, ..row }).await
        }
        _ => Ok(()),
    }
}

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
    tables::{
        drifts,
        runs::{self as table, Projected},
    },
};
use uuid::Uuid;

use super::{continued, recomputed, summary};
use crate::{Runtime, runs};

impl Handle<ProjectorsRebuild> for Runtime {
    async fn handle(&self, ask: Ask<ProjectorsRebuild>) -> Result<Answer<RebuildReply>, Stop> {
        let run_id = ask.path.run_id;
        // The long way through the log is a read; only what was appended meanwhile is read under the run's key.
        let fresh = self.store.read("projectors.recompute", (run_id, ask.caller.clone()), recompute).await?;
        let ask = Rebuild { run_id, caller: ask.caller, fresh };
        Ok(self.store.write("projectors.rebuild", runs::key(run_id), ask, rebuild).await?.into())
    }
}

struct Rebuild {
    run_id: Uuid,
    caller: Caller,
    fresh: Projected,
}

async fn recompute(tx: &mut Tx, (run_id, caller): &(Uuid, Caller)) -> Result<Projected, Stop> {
    let head = runs::visible_head(tx, *run_id, caller).await?;
    recomputed(tx, &head).await
}

async fn rebuild(tx: &mut Tx, ask: &Rebuild) -> Result<RebuildReply, Stop> {
    let mut head = runs::visible_head(tx, ask.run_id, &ask.caller).await?;
    let fresh = continued(tx, &head, ask.fresh.clone()).await?;
    let repaired = fresh != head.projected;
    head.projected = fresh;
    if repaired {
        table::update_head(tx, &head).await?;
    }
    resolve(tx, &projection::run_topic(ask.run_id)).await?;
    Ok(RebuildReply { summary: summary(ask.run_id, &head.projected), repaired })
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

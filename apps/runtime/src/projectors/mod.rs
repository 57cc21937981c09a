//! Projections of logs: rows that change in the transaction of the append, and the means to distrust them
//! (runtime-core §11).

pub mod checkpoint;
pub mod drift;
pub mod rebuild;
pub mod run_summary;

use std::ops::ControlFlow;

use oa_contract::{
    Stop, projection,
    wire::projectors::{Checkpoint, RunSummary},
};
use oa_store::{
    Tx,
    tables::runs::{self as table, Head, Projected},
};
use serde_json::Value;
use uuid::Uuid;

/// The stored projection of a run as a summary.
pub fn summary(run_id: Uuid, projected: &Projected) -> RunSummary {
    RunSummary {
        run_id,
        status: projected.status.clone(),
        last_seq: projected.seq,
        event_count: projected.count,
        projection_hash: projection::projection_hash(
            run_id,
            &projected.status,
            projected.seq,
            projected.count,
        ),
        updated_at: projected.at,
    }
}

/// The stored projection of a run as a checkpoint.
pub fn checkpoint(run_id: Uuid, projected: &Projected) -> Checkpoint {
    Checkpoint {
        topic: projection::run_topic(run_id),
        last_seq: projected.seq,
        last_event_type: projected.event_type.clone(),
        updated_at: projected.at,
    }
}

/// The projection as the log itself says it must be.
pub async fn recomputed(tx: &mut Tx, head: &Head) -> Result<Projected, Stop> {
    let blank = Projected {
        seq: 0,
        count: 0,
        status: projection::RUN_BEGINS.to_owned(),
        event_type: String::new(),
        at: head.projected.at,
    };
    continued(tx, head, blank).await
}

/// A projection that is right up to its own sequence number, carried on to the head.
pub async fn continued(tx: &mut Tx, head: &Head, from: Projected) -> Result<Projected, Stop> {
    let mut out = from;
    table::visit_after(tx, head, out.seq, |event| {
        let payload: Value = match event.event_type == "run.finished" {
            true => serde_json::from_str(event.payload.get()).unwrap_or(Value::Null),
            false => Value::Null,
        };
        if let Some(status) = projection::run_status(&event.event_type, &payload) {
            out.status = status.to_owned();
        }
        out.seq = event.seq;
        out.count += 1;
        out.event_type = event.event_type.clone();
        out.at = event.recorded_at;
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(out)
}

//! Projections of logs: rows that change in the transaction of the append, and the means to distrust them
//! (runtime-core §11).

pub mod checkpoint;
pub mod drift;
pub mod rebuild;
pub mod run_summary;

use std::ops::ControlFlow;

use oa_contract::{
    Stop, Timestamp, projection,
    wire::projectors::{Checkpoint, RunSummary},
};
use oa_store::{
    Tx,
    tables::runs::{self as table, Head, Projected},
};
use serde_json::{Value, value::RawValue};
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
        out = advanced(&out, event.seq, &event.event_type, &event.payload, event.recorded_at);
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(out)
}

/// The projection after one more event (§11); the append and the recomputation are the same step.
pub fn advanced(
    before: &Projected,
    seq: u64,
    event_type: &str,
    payload: &RawValue,
    at: Timestamp,
) -> Projected {
    // Only the finish carries its status in the payload; all other payloads stay unread.
    let payload = match event_type == "run.finished" {
        true => serde_json::from_str(payload.get()).unwrap_or(Value::Null),
        false => Value::Null,
    };
    Projected {
        seq,
        count: before.count + 1,
        status: projection::run_status(event_type, &payload).unwrap_or(&before.status).to_owned(),
        event_type: event_type.to_owned(),
        at,
    }
}

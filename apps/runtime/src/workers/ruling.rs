//! Decides what becomes of a worker with one lifecycle event (§14.4): the next number, the projection, the row
//! of its log and the message to its streams, as one value that is kept whole or not at all.

use oa_contract::{
    Fault, Owner, Stop,
    canonical::compact,
    projection::{self, Incoming, WorkerSummary},
    wire::{
        projectors::{Drift, DriftStatus},
        workers::WorkerStatus,
    },
};
use oa_store::{
    Tx,
    tables::{
        drifts::{self, DriftRow},
        runs::Projected,
        workers::{self, WorkerEvent, WorkerRow},
    },
};
use serde_json::{Value, value::RawValue};

use super::snapshot::{Moment, sync_payload};
use crate::background::publisher::{self, StreamMessage};

/// All that one lifecycle event changes.
#[derive(Debug)]
pub struct Ruling {
    /// The worker as it will stand.
    pub row: WorkerRow,
    event: WorkerEvent,
    drift: Option<Drift>,
    message: StreamMessage,
    moment: Moment,
}

impl Ruling {
    /// `before`: the worker as it stands, if it does. `changed`: as the event leaves it, but for its numbers
    /// and its projection, which are decided here.
    pub fn new(
        before: Option<&WorkerRow>,
        changed: WorkerRow,
        event_type: &str,
        payload: &Value,
        moment: Moment,
    ) -> Result<Self, Fault> {
        let mut row = changed;
        row.latest_seq = before.map_or(0, |before| before.latest_seq) + 1;
        row.updated_at = moment.now;
        let incoming = Incoming { seq: row.latest_seq, event_type, payload, at: moment.now };
        let standing = before.map(summary);
        let projected = projection::project_worker(&row.worker_id, standing.as_ref(), incoming);
        let mut drift = None;
        if let Some(projected) = projected {
            row.projected = Projected {
                seq: projected.summary.last_seq,
                count: projected.summary.event_count,
                status: projected.summary.status,
                event_type: projected.checkpoint.last_event_type,
                at: moment.now,
            };
            drift = projected.drift;
        }
        let event = WorkerEvent {
            seq: row.latest_seq,
            event_type: event_type.to_owned(),
            payload: RawValue::from_string(compact(payload))
                .map_err(|error| Fault::new("writing a lifecycle event", error))?,
            recorded_at: moment.now,
        };
        let message = StreamMessage {
            topics: vec![projection::worker_topic(&row.worker_id), fleet_topic(&row.owner)],
            kind: format!("worker.{}", row.status.name()),
            payload: sync_payload(&row, moment)?,
            at_micros: moment.now.micros(),
        };
        Ok(Ruling { row, event, drift, message, moment })
    }

    /// Writes everything; the worker as it stands afterwards.
    pub async fn commit(self, tx: &mut Tx) -> Result<WorkerRow, Stop> {
        workers::put(tx, &self.row).await?;
        workers::insert_event(tx, &self.row.worker_id, &self.event).await?;
        if let Some(drift) = self.drift {
            drifts::put(tx, &DriftRow { drift, status: DriftStatus::Open }).await?;
        }
        publisher::send(tx, &self.message, self.moment.now).await?;
        Ok(self.row)
    }
}

/// The summary that the columns of the projection stand for.
pub fn summary(row: &WorkerRow) -> WorkerSummary {
    let projected = &row.projected;
    let (status, seq, count) = (&projected.status, projected.seq, projected.count);
    WorkerSummary {
        worker_id: row.worker_id.clone(),
        status: status.clone(),
        last_seq: seq,
        event_count: count,
        projection_hash: projection::worker_projection_hash(&row.worker_id, status, seq, count),
        updated_at: projected.at,
    }
}

/// The topic on which an owner follows all workers at once, numbered per owner.
fn fleet_topic(owner: &Owner) -> String {
    format!("fleet:{owner}:workers")
}

/// Puts a worker into a status: at rest it has stopped now and was heard of now, otherwise it has not stopped
/// (§14.3).
pub fn enter(row: &mut WorkerRow, status: WorkerStatus, moment: Moment) {
    row.status = status;
    row.stopped_at = status.is_at_rest().then_some(moment.now);
    if status.is_at_rest() {
        row.last_heartbeat_at = Some(moment.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_guests_have_a_fleet_each() {
        assert_eq!(fleet_topic(&Owner::User(u64::MAX)), "fleet:user:18446744073709551615:workers");
        assert_eq!(fleet_topic(&Owner::Guest("lab".into())), "fleet:guest:lab:workers");
    }
}

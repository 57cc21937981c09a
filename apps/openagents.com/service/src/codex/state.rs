//! Decides how a worker moves from state to state (control §14.2, §21.3.3).
//!
//! What the specification leaves open is decided so: `worker.starting`, `worker.running`, `worker.stopping`,
//! `worker.stopped` and `worker.failed` move a worker that lives; one that is stopping still says what it has to say
//! and how it ended, but takes no requests; one at rest says nothing until it is created again.

use oa_contract::{Refusal, Timestamp, wire::workers::WorkerStatus};
use oa_store::tables::codex::Worker;

pub const HEARTBEAT: &str = "worker.heartbeat";
pub const RESPONSE: &str = "worker.response";
pub const ERROR: &str = "worker.error";
pub const EVENT: &str = "worker.event";
pub const REQUEST: &str = "worker.request";
pub const APPROVAL: &str = "worker.approval";
pub const STOPPED: &str = "worker.stopped";
pub const FAILED: &str = "worker.failed";

/// The state after an event of this type, or why the worker cannot say it.
pub fn after(status: WorkerStatus, event_type: &str) -> Result<WorkerStatus, Refusal> {
    use WorkerStatus::{Failed, Running, Starting, Stopped, Stopping};
    match (status, event_type) {
        (Stopped | Failed, _) => Err(not_runnable(status)),
        (_, STOPPED) => Ok(Stopped),
        (_, FAILED) => Ok(Failed),
        (Stopping, HEARTBEAT | RESPONSE | ERROR | EVENT | "worker.stopping") => Ok(Stopping),
        (Stopping, _) => Err(not_runnable(status)),
        (_, "worker.starting") => Ok(Starting),
        (_, "worker.running") => Ok(Running),
        (_, "worker.stopping") => Ok(Stopping),
        (Starting | Running, _) => Ok(status),
    }
}

/// Whether requests may be made of a worker in this state.
pub fn takes_requests(status: WorkerStatus) -> Result<(), Refusal> {
    match status {
        WorkerStatus::Starting | WorkerStatus::Running => Ok(()),
        WorkerStatus::Stopping | WorkerStatus::Stopped | WorkerStatus::Failed => Err(not_runnable(status)),
    }
}

fn not_runnable(status: WorkerStatus) -> Refusal {
    Refusal::conflict(format!("the worker is {}; create it again to bring it back", status.name()))
}

/// Moves a worker; the moment counts when it comes to rest.
pub fn enter(worker: &mut Worker, status: WorkerStatus, now: Timestamp) {
    if status.is_at_rest() && !worker.status.is_at_rest() {
        worker.stopped_at = Some(now);
    }
    worker.status = status;
}

#[cfg(test)]
mod tests {
    use WorkerStatus::{Failed, Running, Starting, Stopped, Stopping};

    use super::*;

    #[test]
    fn the_table_of_states_holds_row_by_row() {
        for living in [Starting, Running] {
            for (event, wanted) in [
                (HEARTBEAT, living),
                (EVENT, living),
                ("worker.anything", living),
                ("worker.starting", Starting),
                ("worker.running", Running),
                ("worker.stopping", Stopping),
                (STOPPED, Stopped),
                (FAILED, Failed),
            ] {
                assert_eq!(after(living, event), Ok(wanted), "{living:?} {event}");
            }
            assert!(takes_requests(living).is_ok());
        }
        for (event, wanted) in [
            (STOPPED, Some(Stopped)),
            (FAILED, Some(Failed)),
            (RESPONSE, Some(Stopping)),
            (EVENT, Some(Stopping)),
            ("worker.starting", None),
            ("worker.anything", None),
        ] {
            assert_eq!(after(Stopping, event).ok(), wanted, "{event}");
        }
        for resting in [Stopped, Failed] {
            for event in [HEARTBEAT, EVENT, RESPONSE, "worker.starting", STOPPED] {
                assert_eq!(after(resting, event).expect_err(event).code, oa_contract::Code::Conflict);
            }
        }
        for closed in [Stopping, Stopped, Failed] {
            assert!(takes_requests(closed).is_err());
        }
    }
}

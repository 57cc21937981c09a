//! `POST /internal/v1/workers/:worker_id/status`: the state machine of a worker moves (§14.3).

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop,
    matrix::WorkersStatus,
    wire::workers::{WorkerReply, WorkerStatus},
};
use oa_store::{
    Tx,
    tables::workers::{self, WorkerRow},
};
use serde_json::json;

use super::{
    LONGEST_TEXT, at_most, key, owned, owner,
    ruling::{Ruling, enter},
    snapshot::{self, Moment},
};
use crate::Runtime;

struct Change {
    worker_id: String,
    owner: Owner,
    to: WorkerStatus,
    reason: String,
    moment: Moment,
}

impl Handle<WorkersStatus> for Runtime {
    async fn handle(&self, ask: Ask<WorkersStatus>) -> Result<Answer<WorkerReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let reason = ask.body.reason.unwrap_or_else(|| "status_transition".into());
        at_most("reason", &reason, LONGEST_TEXT)?;
        let moment = Moment::of(self);
        let change = Change { worker_id: ask.path.worker_id, owner, to: ask.body.status, reason, moment };
        let row = self.store.write("workers.status", key(&change.worker_id), change, commit).await?;
        Ok(snapshot::reply(&row, moment)?.into())
    }
}

async fn commit(tx: &mut Tx, change: &Change) -> Result<WorkerRow, Stop> {
    let known = workers::get(tx, &change.worker_id).await?;
    let known = owned(known.as_ref(), &change.worker_id, &change.owner)?;
    decide(known, change.to, &change.reason, change.moment)?.commit(tx).await
}

/// Moves a worker, or says that it cannot go there from where it is.
pub fn decide(known: &WorkerRow, to: WorkerStatus, reason: &str, moment: Moment) -> Result<Ruling, Stop> {
    if !known.status.may_become(to) {
        let message = format!("invalid worker transition from {:?} to {to:?}", known.status);
        return Err(Refusal::invalid(message).into());
    }
    let mut row = known.clone();
    enter(&mut row, to, moment);
    let payload = json!({"status": to.name(), "reason": reason});
    Ok(Ruling::new(Some(known), row, &format!("worker.{}", to.name()), &payload, moment)?)
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::workers::{HeartbeatState, RegisterWorker};

    use super::*;
    use crate::{
        testing::{World, bound_to, on_each_engine, operator, refused},
        workers::tests_support::{change, register, stored, topics, user},
    };

    #[tokio::test]
    async fn a_worker_stops_and_the_moment_is_kept_until_it_runs_again() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker { worker_id: Some("w".into()), ..user(7) };
            register(&world, &operator(), body).await.expect("registered");
            world.clock.advance_ms(1_000);
            let (status, reply) =
                change(&world, "w", 7, WorkerStatus::Stopping, Some("drain")).await.expect("changed");
            assert_eq!((status, reply.worker.worker.status), (200, WorkerStatus::Stopping));
            assert_eq!(
                (reply.worker.worker.stopped_at, reply.worker.liveness.heartbeat_age_ms),
                (None, Some(1_000))
            );
            let (_, reply) = change(&world, "w", 7, WorkerStatus::Stopped, None).await.expect("changed");
            assert_eq!(reply.worker.worker.stopped_at, Some(world.clock_now()));
            assert_eq!(reply.worker.worker.last_heartbeat_at, Some(world.clock_now()));
            assert_eq!(reply.worker.liveness.heartbeat_state, HeartbeatState::Stopped);
            let (_, reply) = change(&world, "w", 7, WorkerStatus::Starting, None).await.expect("changed");
            assert_eq!((reply.worker.worker.stopped_at, reply.worker.worker.latest_seq), (None, 4));
            let (row, events) = stored(&world, "w").await;
            let said: Vec<_> =
                events.iter().map(|event| (event.event_type.as_str(), event.payload.get())).collect();
            assert_eq!(said[1], ("worker.stopping", r#"{"status":"stopping","reason":"drain"}"#));
            assert_eq!(said[2], ("worker.stopped", r#"{"status":"stopped","reason":"status_transition"}"#));
            assert_eq!(row.projected.status, "starting");
            let kinds = ["worker.running", "worker.stopping", "worker.stopped", "worker.starting"];
            assert_eq!(topics(&world).await["runtime.worker.w.lifecycle"], kinds);
        })
        .await;
    }

    #[tokio::test]
    async fn every_transition_is_allowed_or_refused_as_the_table_says() {
        let world = World::sqlite().await;
        let body = RegisterWorker { worker_id: Some("w".into()), ..user(7) };
        register(&world, &operator(), body).await.expect("registered");
        let (row, _) = stored(&world, "w").await;
        let moment = Moment::of(&world.runtime);
        for from in WorkerStatus::ALL {
            for to in WorkerStatus::ALL {
                let known = WorkerRow { status: from, ..row.clone() };
                let ruled = decide(&known, to, "why", moment);
                match from.may_become(to) {
                    true => assert_eq!(ruled.expect("allowed").row.status, to),
                    false => assert_eq!(
                        refused(ruled).message,
                        format!("invalid worker transition from {from:?} to {to:?}")
                    ),
                }
            }
        }
        let refusal = refused(change(&world, "w", 7, WorkerStatus::Starting, None).await);
        assert_eq!(refusal.message, "invalid worker transition from Running to Starting");
        assert_eq!(stored(&world, "w").await.0.latest_seq, 1);
    }

    #[tokio::test]
    async fn owners_are_checked_as_everywhere() {
        let world = World::sqlite().await;
        let body = RegisterWorker { worker_id: Some("w".into()), ..user(7) };
        register(&world, &bound_to(7), body).await.expect("registered");
        assert_eq!(
            refused(change(&world, "x", 7, WorkerStatus::Failed, None).await).code.name(),
            "not_found"
        );
        let refusal = refused(change(&world, "w", 8, WorkerStatus::Failed, None).await);
        assert_eq!(refusal.message, "owner mismatch for worker w");
    }
}

//! `GET /internal/v1/workers/:worker_id`: one worker of the owner that is named, and how alive it is.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::WorkersGet, wire::workers::WorkerReply};

use super::{
    find, owned, owner,
    snapshot::{self, Moment},
};
use crate::Runtime;

impl Handle<WorkersGet> for Runtime {
    async fn handle(&self, ask: Ask<WorkersGet>) -> Result<Answer<WorkerReply>, Stop> {
        let owner = owner(&ask.caller, ask.query.owner_user_id, ask.query.owner_guest_scope.as_deref())?;
        let worker_id = ask.path.worker_id;
        let found = find(&self.store, "workers.get", &worker_id).await?;
        let row = owned(found.as_ref(), &worker_id, &owner)?;
        Ok(snapshot::reply(row, Moment::of(self))?.into())
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Nothing,
        wire::{
            paths::WorkerPath,
            workers::{HeartbeatState, NameOwner, RegisterWorker},
        },
    };

    use super::*;
    use crate::{
        testing::{World, bound_to, on_each_engine, operator, refused},
        workers::tests_support::register,
    };

    #[tokio::test]
    async fn a_worker_is_shown_to_its_owner_with_the_liveness_of_now() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker {
                worker_id: Some("a/b:c d".into()),
                owner_guest_scope: Some(" lab ".into()),
                ..RegisterWorker::default()
            };
            register(&world, &operator(), body).await.expect("registered");
            world.clock.advance_ms(120_001);
            let ask = async |worker_id: &str, user_id: Option<u64>, scope: Option<&str>| {
                let query = NameOwner { owner_user_id: user_id, owner_guest_scope: scope.map(str::to_owned) };
                let path = WorkerPath { worker_id: worker_id.into() };
                world.call::<WorkersGet>(&operator(), path, query, Nothing {}).await
            };
            let (status, reply) = ask("a/b:c d", None, Some("lab")).await.expect("found");
            assert_eq!((status, reply.worker.liveness.heartbeat_age_ms), (200, Some(120_001)));
            assert_eq!(reply.worker.liveness.heartbeat_state, HeartbeatState::Stale);
            assert_eq!(reply.worker.worker.owner.guest_scope.as_deref(), Some("lab"));
            assert_eq!(refused(ask("nobody", None, Some("lab")).await).code.name(), "not_found");
            assert_eq!(
                refused(ask("a/b:c d", Some(1), None).await).message,
                "owner mismatch for worker a/b:c d"
            );
            assert_eq!(refused(ask("a/b:c d", None, None).await).code.name(), "invalid_request");
        })
        .await;
    }

    #[tokio::test]
    async fn a_bound_credential_cannot_name_another_owner() {
        let world = World::sqlite().await;
        let query = NameOwner { owner_user_id: Some(2), owner_guest_scope: None };
        let path = WorkerPath { worker_id: "w".into() };
        let refusal = refused(world.call::<WorkersGet>(&bound_to(1), path, query, Nothing {}).await);
        assert_eq!(refusal.message, "this credential speaks for user:1, not for user:2");
    }
}

//! `GET /internal/v1/workers/:worker_id/checkpoint`: where the projection of a worker's lifecycle stands
//! (§11). No owner is named; a credential that is bound to one sees its own workers only.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::WorkersCheckpoint,
    projection,
    wire::projectors::{Checkpoint, CheckpointReply},
};
use oa_store::tables::workers::WorkerRow;

use super::{find, unknown};
use crate::Runtime;

impl Handle<WorkersCheckpoint> for Runtime {
    async fn handle(&self, ask: Ask<WorkersCheckpoint>) -> Result<Answer<CheckpointReply>, Stop> {
        let worker_id = ask.path.worker_id;
        let found = find(&self.store, "workers.checkpoint", &worker_id).await?;
        let row = found.filter(|row| ask.caller.may_see(Some(&row.owner)));
        let row = row.ok_or_else(|| unknown(&worker_id))?;
        Ok(CheckpointReply { checkpoint: checkpoint(row) }.into())
    }
}

fn checkpoint(row: WorkerRow) -> Checkpoint {
    Checkpoint {
        topic: projection::worker_topic(&row.worker_id),
        last_seq: row.projected.seq,
        last_event_type: row.projected.event_type,
        updated_at: row.projected.at,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        Nothing,
        wire::{paths::WorkerPath, workers::RegisterWorker},
    };

    use super::*;
    use crate::{
        testing::{World, bound_to, on_each_engine, operator, refused},
        workers::tests_support::{heartbeat, register, user},
    };

    #[tokio::test]
    async fn the_checkpoint_follows_the_last_event() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker { worker_id: Some("desktop:w".into()), ..user(1) };
            register(&world, &operator(), body).await.expect("registered");
            world.clock.advance_ms(1);
            heartbeat(&world, "desktop:w", 1, "{}").await.expect("beaten");
            let path = WorkerPath { worker_id: "desktop:w".into() };
            let (_, reply) = world
                .call::<WorkersCheckpoint>(&operator(), path, Nothing {}, Nothing {})
                .await
                .expect("found");
            let want = Checkpoint {
                topic: "worker:desktop:w:lifecycle".into(),
                last_seq: 2,
                last_event_type: "worker.heartbeat".into(),
                updated_at: world.clock_now(),
            };
            assert_eq!(reply.checkpoint, want);
        })
        .await;
    }

    #[tokio::test]
    async fn a_worker_of_another_owner_is_as_unknown_as_none() {
        let world = World::sqlite().await;
        let body = RegisterWorker { worker_id: Some("w".into()), ..user(1) };
        register(&world, &operator(), body).await.expect("registered");
        for (caller, worker_id) in [(bound_to(2), "w"), (operator(), "x")] {
            let path = WorkerPath { worker_id: worker_id.into() };
            let ended = world.call::<WorkersCheckpoint>(&caller, path, Nothing {}, Nothing {}).await;
            assert_eq!(refused(ended).code.name(), "not_found");
        }
    }
}

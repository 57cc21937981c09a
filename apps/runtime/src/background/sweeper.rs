//! Decides when a silent worker is lost: nothing was heard of it for `heartbeat_lost_after_ms` while it was
//! starting, running or stopping. It becomes `failed` with the reason `heartbeat_timeout`, and may register
//! again.
//!
//! Silence counts from the latest of three moments: the last heartbeat; the last change of the worker, because
//! one that was just revived has had no time to beat; and the start of this process, because whoever was not
//! listening cannot tell that nobody spoke.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};
use oa_contract::{Port as _, Stop, Timestamp, wire::workers::WorkerStatus};
use oa_store::{
    Tx,
    tables::workers::{self, WorkerRow},
};

use super::lead::Leader;
use crate::{
    Runtime,
    workers::{key, snapshot::Moment, status},
};

/// How often somebody looks.
const EVERY: Duration = Duration::from_secs(5);
/// Workers in one look.
const BATCH: u32 = 256;
/// Workers that are failed at one time; on SQLite these share a commit.
const AT_ONE_TIME: usize = 32;
const WATCHED: [WorkerStatus; 3] = [WorkerStatus::Starting, WorkerStatus::Running, WorkerStatus::Stopping];

/// Sweeps until it is cancelled.
pub async fn run(runtime: &Arc<Runtime>, leader: &Leader) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // A replica that does not lead sweeps nothing, and is as alive as one that does.
        runtime.heartbeats.sweeper_beats(runtime.now());
        match leader.sweep(runtime, sweep_once(runtime)).await {
            Ok(None | Some(0)) => {}
            Ok(Some(lost)) => tracing::warn!(lost, "workers were not heard of any more and are failed now"),
            Err(stop) => {
                tracing::warn!(error = %stop, "the sweeper could not look at the workers; it tries again")
            }
        }
    }
}

/// Fails every lost worker and says how many there were.
pub async fn sweep_once(runtime: &Arc<Runtime>) -> Result<usize, Stop> {
    runtime.heartbeats.sweeper_beats(runtime.now());
    let moment = Moment::of(runtime);
    let before = moment.now.plus_millis(-runtime.config.heartbeat_lost_after_ms);
    if runtime.admits_writes().is_err() || runtime.started_at > before {
        return Ok(0);
    }
    let mut failed = 0;
    for status in WATCHED {
        loop {
            let silent = runtime.store.read("sweeper.look", (status, before), look).await?;
            let whole = silent.len() == BATCH as usize;
            let now = fail_all(runtime, silent, before, moment).await?;
            failed += now;
            runtime.heartbeats.sweeper_beats(runtime.now());
            // A batch in which nobody was lost after all would be found again.
            if !whole || now == 0 {
                break;
            }
        }
    }
    Ok(failed)
}

async fn look(tx: &mut Tx, (status, before): &(WorkerStatus, Timestamp)) -> Result<Vec<String>, Stop> {
    workers::lost(tx, *status, *before, BATCH).await
}

async fn fail_all(
    runtime: &Arc<Runtime>,
    silent: Vec<String>,
    before: Timestamp,
    moment: Moment,
) -> Result<usize, Stop> {
    let fail = |worker_id: String| {
        let key = key(&worker_id);
        runtime.store.write("sweeper.fail", key, Suspect { worker_id, before, moment }, fail)
    };
    let failed = futures_util::stream::iter(silent).map(fail).buffer_unordered(AT_ONE_TIME);
    failed.try_fold(0, async |failed, lost| Ok(failed + usize::from(lost))).await
}

struct Suspect {
    worker_id: String,
    before: Timestamp,
    moment: Moment,
}

/// Looks again under the worker's key: a heartbeat that came in between wins.
async fn fail(tx: &mut Tx, suspect: &Suspect) -> Result<bool, Stop> {
    let Some(known) = workers::get(tx, &suspect.worker_id).await? else { return Ok(false) };
    if !is_lost(&known, suspect.before) {
        return Ok(false);
    }
    status::decide(&known, WorkerStatus::Failed, "heartbeat_timeout", suspect.moment)?.commit(tx).await?;
    Ok(true)
}

fn is_lost(row: &WorkerRow, before: Timestamp) -> bool {
    let silent = row.last_heartbeat_at.is_some_and(|at| at < before) && row.updated_at < before;
    silent && WATCHED.contains(&row.status)
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::workers::{HeartbeatState, RegisterWorker};

    use super::*;
    use crate::{
        WriteMode,
        testing::{World, config, on_each_engine, operator},
        workers::tests_support::{change, heartbeat, register, stored, topics, user},
    };

    const LOST_AFTER: i64 = 360_000;

    async fn registered(world: &World, ids: &[&str]) {
        for id in ids {
            let body = RegisterWorker { worker_id: Some((*id).into()), ..user(42) };
            register(world, &operator(), body).await.expect("registered");
        }
    }

    async fn swept(world: &World) -> usize {
        sweep_once(&world.runtime).await.expect("swept")
    }

    #[tokio::test]
    async fn a_worker_that_is_silent_for_too_long_fails_and_is_told_to_its_streams() {
        on_each_engine(async |world: World| {
            registered(&world, &["w", "starting", "stopping", "stopped", "alive"]).await;
            change(&world, "stopped", 42, WorkerStatus::Stopped, None).await.expect("changed");
            change(&world, "stopping", 42, WorkerStatus::Stopping, None).await.expect("changed");
            change(&world, "starting", 42, WorkerStatus::Failed, None).await.expect("changed");
            change(&world, "starting", 42, WorkerStatus::Starting, None).await.expect("changed");
            world.clock.advance_ms(LOST_AFTER);
            assert_eq!(swept(&world).await, 0, "not yet longer than that");
            heartbeat(&world, "alive", 42, "{}").await.expect("beaten");
            world.clock.advance_ms(1);
            assert_eq!(swept(&world).await, 3);
            assert_eq!(swept(&world).await, 0);
            let (row, events) = stored(&world, "w").await;
            assert_eq!((row.status, row.stopped_at), (WorkerStatus::Failed, Some(world.clock_now())));
            assert_eq!(events[1].event_type, "worker.failed");
            assert_eq!(events[1].payload.get(), r#"{"status":"failed","reason":"heartbeat_timeout"}"#);
            assert_eq!((row.projected.seq, row.projected.status.as_str()), (2, "failed"));
            assert_eq!(
                topics(&world).await["runtime.worker.w.lifecycle"],
                ["worker.running", "worker.failed"]
            );
            assert_eq!(stored(&world, "alive").await.0.status, WorkerStatus::Running);
            assert_eq!(stored(&world, "stopped").await.0.status, WorkerStatus::Stopped);
        })
        .await;
    }

    #[tokio::test]
    async fn a_heartbeat_that_came_in_between_wins() {
        on_each_engine(async |world: World| {
            registered(&world, &["w"]).await;
            world.clock.advance_ms(LOST_AFTER + 1);
            let moment = Moment::of(&world.runtime);
            let before = moment.now.plus_millis(-LOST_AFTER);
            let seen = world
                .runtime
                .store
                .read("test.look", (WorkerStatus::Running, before), look)
                .await
                .expect("read");
            assert_eq!(seen, ["w"]);
            heartbeat(&world, "w", 42, "{}").await.expect("beaten");
            assert_eq!(fail_all(&world.runtime, seen, before, moment).await.expect("swept"), 0);
            assert_eq!(stored(&world, "w").await.0.status, WorkerStatus::Running);
        })
        .await;
    }

    #[tokio::test]
    async fn a_revived_worker_is_given_time_to_beat() {
        let world = World::sqlite().await;
        registered(&world, &["w"]).await;
        world.clock.advance_ms(LOST_AFTER + 1);
        assert_eq!(swept(&world).await, 1);
        world.clock.advance_ms(LOST_AFTER + 1);
        registered(&world, &["w"]).await;
        assert_eq!(swept(&world).await, 0);
        world.clock.advance_ms(LOST_AFTER + 1);
        assert_eq!(swept(&world).await, 1);
    }

    #[tokio::test]
    async fn a_process_that_has_just_started_blames_nobody_for_silence() {
        on_each_engine(async |world: World| {
            registered(&world, &["w"]).await;
            world.clock.advance_ms(10 * LOST_AFTER);
            let world = world.restart().await;
            assert_eq!(swept(&world).await, 0);
            world.clock.advance_ms(LOST_AFTER);
            assert_eq!(swept(&world).await, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_read_only_instance_fails_nobody_but_still_beats() {
        let world = World::with(
            oa_store::EngineKind::Sqlite,
            crate::Config { write_mode: WriteMode::ShadowOnly, ..config() },
        )
        .await;
        registered(&world, &["w"]).await;
        world.clock.advance_ms(LOST_AFTER + 1);
        assert_eq!(swept(&world).await, 0);
        assert!(world.runtime.heartbeats.sweeper_alive(world.clock_now(), Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn many_lost_workers_are_failed_batch_by_batch() {
        on_each_engine(async |world: World| {
            registered(&world, &["w"]).await;
            let (row, _) = stored(&world, "w").await;
            let many = async |tx: &mut Tx, row: &WorkerRow| {
                for n in 0..599 {
                    workers::put(tx, &WorkerRow { worker_id: format!("w{n:03}"), ..row.clone() }).await?;
                }
                Ok(())
            };
            world.runtime.store.write("test.many", (), row, many).await.expect("written");
            world.clock.advance_ms(LOST_AFTER + 1);
            assert_eq!(swept(&world).await, 600);
            assert_eq!(stored(&world, "w598").await.0.status, WorkerStatus::Failed);
        })
        .await;
    }

    #[tokio::test]
    async fn a_failed_worker_is_told_as_failed() {
        let world = World::sqlite().await;
        registered(&world, &["w"]).await;
        world.clock.advance_ms(LOST_AFTER + 1);
        swept(&world).await;
        let (_, reply) = heartbeat(&world, "w", 42, "{}").await.expect("beaten");
        assert_eq!(reply.worker.liveness.heartbeat_state, HeartbeatState::Failed);
    }
}

//! `POST /internal/v1/workers/:worker_id/heartbeat`: a worker lives, in whatever status, and may say what has
//! changed about it (§14.5).

use oa_contract::{Answer, Ask, Handle, Owner, Stop, matrix::WorkersHeartbeat, wire::workers::WorkerReply};
use oa_store::{
    Tx,
    tables::workers::{self, WorkerRow},
};
use serde_json::{Value, json};

use super::{
    key, metadata, owned, owner, qualification, reserve,
    ruling::Ruling,
    snapshot::{self, Moment},
};
use crate::Runtime;

struct Beat {
    worker_id: String,
    owner: Owner,
    patch: Value,
    /// What an operator says about the reserve pool.
    reserve: Option<bool>,
    moment: Moment,
}

impl Handle<WorkersHeartbeat> for Runtime {
    async fn handle(&self, ask: Ask<WorkersHeartbeat>) -> Result<Answer<WorkerReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let patch = metadata::written("metadata_patch", ask.body.metadata_patch.as_deref())?;
        let moment = Moment::of(self);
        let reserve = self.says_reserve(&ask.caller, &patch);
        let beat = Beat { worker_id: ask.path.worker_id, owner, patch, reserve, moment };
        let row = self.store.write("workers.heartbeat", key(&beat.worker_id), beat, commit).await?;
        Ok(snapshot::reply(&row, moment)?.into())
    }
}

async fn commit(tx: &mut Tx, beat: &Beat) -> Result<WorkerRow, Stop> {
    let known = workers::get(tx, &beat.worker_id).await?;
    let known = owned(known.as_ref(), &beat.worker_id, &beat.owner)?;
    let reserved = reserve::settled(tx, &beat.worker_id, beat.reserve, beat.moment.now).await?;
    decide(known, &beat.patch, reserved, beat.moment)?.commit(tx).await
}

fn decide(known: &WorkerRow, patch: &Value, reserved: bool, moment: Moment) -> Result<Ruling, Stop> {
    let mut row = WorkerRow { last_heartbeat_at: Some(moment.now), ..known.clone() };
    if patch.as_object().is_some_and(|patch| !patch.is_empty()) {
        let mut merged = metadata::read(&known.metadata)?;
        metadata::merge(&mut merged, patch);
        reserve::render(&mut merged, reserved);
        if qualification::touches_pricing(patch) {
            qualification::recheck_pricing(&merged)?;
        }
        if metadata::differs_from_qualified(&metadata::read(&known.metadata)?, &merged) {
            // What was probed is not what stands there now: it has to register again to be qualified.
            row.reputation.qualified_at = None;
        }
        row.metadata = metadata::sized(&merged)?;
    }
    let payload = json!({"status": row.status.name()});
    Ok(Ruling::new(Some(known), row, "worker.heartbeat", &payload, moment)?)
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::workers::{HeartbeatState, RegisterWorker};

    use super::*;
    use crate::{
        testing::{HealthRoute, World, on_each_engine, operator, refused},
        workers::tests_support::{heartbeat, raw, register, stored, topics, user},
    };

    async fn registered(world: &World, metadata: &str) {
        let body = RegisterWorker { worker_id: Some("w".into()), metadata: Some(raw(metadata)), ..user(42) };
        register(world, &operator(), body).await.expect("registered");
    }

    #[tokio::test]
    async fn a_heartbeat_refreshes_merges_and_is_logged() {
        on_each_engine(async |world: World| {
            registered(&world, r#"{"b":1,"load":0.1}"#).await;
            world.clock.set(crate::testing::BEGIN.plus_millis(130_000));
            let (status, reply) =
                heartbeat(&world, "w", 42, r#"{"load":0.4,"n":1e2}"#).await.expect("beaten");
            assert_eq!((status, reply.worker.worker.latest_seq), (200, 2));
            assert_eq!(reply.worker.worker.metadata.get(), r#"{"b":1,"load":0.4,"n":100.0}"#);
            assert_eq!(reply.worker.liveness.heartbeat_state, HeartbeatState::Fresh);
            assert_eq!(reply.worker.worker.last_heartbeat_at, Some(world.clock_now()));
            let (row, events) = stored(&world, "w").await;
            assert_eq!(
                (events[1].event_type.as_str(), events[1].payload.get()),
                ("worker.heartbeat", r#"{"status":"running"}"#)
            );
            assert_eq!((row.projected.seq, row.projected.event_type.as_str()), (2, "worker.heartbeat"));
            assert_eq!(
                topics(&world).await["runtime.fleet.user.42.workers"],
                ["worker.running", "worker.running"]
            );
        })
        .await;
    }

    #[tokio::test]
    async fn what_cannot_be_merged_is_ignored() {
        let world = World::sqlite().await;
        registered(&world, r#"[1,2]"#).await;
        for patch in [r#"{"a":1}"#, "null", "[3]", "\"text\""] {
            let (_, reply) = heartbeat(&world, "w", 42, patch).await.expect("beaten");
            assert_eq!(reply.worker.worker.metadata.get(), "[1,2]");
        }
    }

    #[tokio::test]
    async fn an_unknown_worker_is_told_before_a_wrong_owner() {
        let world = World::sqlite().await;
        registered(&world, "{}").await;
        assert_eq!(refused(heartbeat(&world, "nobody", 7, "{}").await).code.name(), "not_found");
        let refusal = refused(heartbeat(&world, "w", 7, "{}").await);
        assert_eq!(
            (refusal.code.name(), refusal.message.as_str()),
            ("forbidden", "owner mismatch for worker w")
        );
        assert_eq!(stored(&world, "w").await.0.latest_seq, 1);
    }

    #[tokio::test]
    async fn prices_are_checked_again_and_nothing_changes_when_they_are_wrong() {
        let world = World::sqlite().await;
        let route = HealthRoute::answering(200).await;
        let provider = format!(
            r#"{{"roles":["provider"],"provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"]}}"#,
            route.base()
        );
        registered(&world, &provider).await;
        let refusal = refused(heartbeat(&world, "w", 42, r#"{"pricing_stage":"banded","load":1}"#).await);
        assert_eq!(refusal.message, "pricing_bands[] is required when pricing_stage=banded");
        let (row, _) = stored(&world, "w").await;
        assert_eq!((row.latest_seq, row.metadata.get()), (1, provider.as_str()));
        let bands = r#"{"pricing_stage":"banded","pricing_bands":[{"capability":"oa.sandbox_run.v1","min_price_msats":1,"max_price_msats":2}]}"#;
        heartbeat(&world, "w", 42, bands).await.expect("beaten");
        assert_eq!(route.asked(), 1);
    }

    #[tokio::test]
    async fn prices_of_metadata_that_is_no_object_are_an_internal_refusal() {
        let world = World::sqlite().await;
        registered(&world, "null").await;
        let refusal = refused(heartbeat(&world, "w", 42, r#"{"pricing_stage":"fixed"}"#).await);
        assert_eq!(
            (refusal.code.name(), refusal.message.as_str()),
            ("internal", "worker metadata must be a JSON object")
        );
    }

    #[tokio::test]
    async fn metadata_does_not_grow_beyond_its_limit_by_patches() {
        let world = World::sqlite().await;
        registered(&world, "{}").await;
        let half = "x".repeat(40_000);
        heartbeat(&world, "w", 42, &format!(r#"{{"a":"{half}"}}"#)).await.expect("beaten");
        let refusal = refused(heartbeat(&world, "w", 42, &format!(r#"{{"b":"{half}"}}"#)).await);
        assert!(refusal.message.starts_with("metadata must be at most 65536 bytes"));
        heartbeat(&world, "w", 42, &format!(r#"{{"a":"{half}"}}"#)).await.expect("beaten");
    }

    #[tokio::test]
    async fn beats_at_one_time_are_numbered_without_a_gap() {
        on_each_engine(async |world: World| {
            registered(&world, "{}").await;
            let beats = (0..20).map(|_| heartbeat(&world, "w", 42, "{}"));
            let mut seqs: Vec<u64> = futures_util::future::join_all(beats)
                .await
                .into_iter()
                .map(|beaten| beaten.expect("beaten").1.worker.worker.latest_seq)
                .collect();
            seqs.sort_unstable();
            assert_eq!(seqs, (2..=21).collect::<Vec<_>>());
            assert_eq!(topics(&world).await["runtime.worker.w.lifecycle"].len(), 21);
        })
        .await;
    }

    #[tokio::test]
    async fn old_heartbeats_are_forgotten_and_other_events_are_not() {
        on_each_engine(async |world: World| {
            registered(&world, "{}").await;
            let many = async |tx: &mut Tx, moment: &Moment| {
                for _ in 0..1_250 {
                    let known = workers::get(tx, "w").await?.expect("the worker");
                    decide(&known, &Value::Null, false, *moment)?.commit(tx).await?;
                }
                Ok(())
            };
            world
                .runtime
                .store
                .write("test.beats", key("w"), Moment::of(&world.runtime), many)
                .await
                .expect("beaten");
            let (row, events) = stored(&world, "w").await;
            let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
            assert_eq!((row.latest_seq, row.projected.count), (1_251, 1_251));
            assert_eq!(seqs[0], 1, "the registration stays");
            assert_eq!(seqs[1..], (201..=1_251).collect::<Vec<_>>()[..]);
        })
        .await;
    }
}

//! `POST /internal/v1/workers`: a worker enters the registry, or enters it again with its number, its log and
//! its reputation as they were (§14.5).

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop, Timestamp,
    matrix::WorkersRegister,
    wire::{
        null,
        workers::{RegisterWorker, WorkerReply, WorkerStatus},
    },
};
use oa_store::{
    Tx,
    tables::{
        runs::Projected,
        workers::{self, Reputation, WorkerRow},
    },
};
use serde_json::{Value, json, value::RawValue};

use super::{
    LONGEST_NAME, LONGEST_TEXT, at_most, key, metadata, must_own, owner, plain, qualification, reserve,
    ruling::{Ruling, enter},
    snapshot::{self, Moment},
};
use crate::Runtime;

/// A registration that was read and, for a provider, checked.
struct Registration {
    worker_id: String,
    owner: Owner,
    workspace_ref: Option<String>,
    codex_home_ref: Option<String>,
    adapter: String,
    metadata: Value,
    /// It is a provider's, and has passed.
    qualified: bool,
    /// What an operator says about the reserve pool.
    reserve: Option<bool>,
}

impl Handle<WorkersRegister> for Runtime {
    async fn handle(&self, ask: Ask<WorkersRegister>) -> Result<Answer<WorkerReply>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let mut wanted = read(ask.body, owner, || format!("codexw_{}", self.ids.uuid_v7(self.now())))?;
        wanted.reserve = self.says_reserve(&ask.caller, &wanted.metadata);
        wanted.qualified = qualification::qualify(&self.fetcher, &wanted.metadata).await?;
        let moment = Moment::of(self);
        let (key, most) = (key(&wanted.worker_id), self.config.workers_max);
        let row = self.store.write("workers.register", key, (wanted, moment, most), commit).await?;
        Ok(snapshot::reply(&row, moment)?.into())
    }
}

async fn commit(
    tx: &mut Tx,
    (wanted, moment, most): &(Registration, Moment, u32),
) -> Result<WorkerRow, Stop> {
    let known = workers::get(tx, &wanted.worker_id).await?;
    if known.is_none() && workers::holds(tx, &wanted.owner, *most).await? {
        return Err(Refusal::conflict(format!(
            "{} has {most} workers, which is as many as one owner may have (RUNTIME_WORKERS_MAX); register one of them again",
            wanted.owner
        ))
        .into());
    }
    let reserved = reserve::settled(tx, &wanted.worker_id, wanted.reserve, moment.now).await?;
    decide(known.as_ref(), wanted, reserved, *moment)?.commit(tx).await
}

fn read(
    body: RegisterWorker,
    owner: Owner,
    fresh_id: impl FnOnce() -> String,
) -> Result<Registration, Refusal> {
    let trimmed =
        |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let worker_id = trimmed(body.worker_id).unwrap_or_else(fresh_id);
    plain("worker_id", &worker_id)?;
    let adapter = trimmed(body.adapter).unwrap_or_else(|| "in_memory".into());
    at_most("adapter", &adapter, LONGEST_NAME)?;
    for (field, text) in [("workspace_ref", &body.workspace_ref), ("codex_home_ref", &body.codex_home_ref)] {
        at_most(field, text.as_deref().unwrap_or_default(), LONGEST_TEXT)?;
    }
    let metadata = metadata::written("metadata", body.metadata.as_deref())?;
    metadata::sized(&metadata)?;
    Ok(Registration {
        worker_id,
        owner,
        workspace_ref: body.workspace_ref,
        codex_home_ref: body.codex_home_ref,
        adapter,
        metadata,
        qualified: false,
        reserve: None,
    })
}

fn decide(
    known: Option<&WorkerRow>,
    wanted: &Registration,
    reserved: bool,
    moment: Moment,
) -> Result<Ruling, Stop> {
    let changed = match known {
        None => begun(wanted, reserved, moment.now)?,
        Some(known) => begun_again(known, wanted, reserved, moment)?,
    };
    // A worker that is starting or stopping stays so, and its log says so (§23.6).
    let payload = json!({"status": changed.status.name(), "reason": "register"});
    Ok(Ruling::new(known, changed, "worker.started", &payload, moment)?)
}

fn begun(wanted: &Registration, reserved: bool, now: Timestamp) -> Result<WorkerRow, Refusal> {
    let mut said = wanted.metadata.clone();
    reserve::render(&mut said, reserved);
    Ok(WorkerRow {
        worker_id: wanted.worker_id.clone(),
        owner: wanted.owner.clone(),
        workspace_ref: wanted.workspace_ref.clone(),
        codex_home_ref: wanted.codex_home_ref.clone(),
        adapter: wanted.adapter.clone(),
        status: WorkerStatus::Running,
        latest_seq: 0,
        metadata: metadata::sized(&said)?,
        started_at: now,
        stopped_at: None,
        last_heartbeat_at: Some(now),
        updated_at: now,
        reputation: Reputation {
            qualified_at: wanted.qualified.then_some(now),
            failure_strikes: 0,
            success_count: 0,
            quarantined_at: None,
            quarantine_reason: None,
            marks: RawValue::from_string("{}".into()).unwrap_or_else(|_| null()),
        },
        projected: Projected { seq: 0, count: 0, status: String::new(), event_type: String::new(), at: now },
    })
}

fn begun_again(
    known: &WorkerRow,
    wanted: &Registration,
    reserved: bool,
    moment: Moment,
) -> Result<WorkerRow, Stop> {
    must_own(known, &wanted.owner)?;
    let mut merged = metadata::read(&known.metadata)?;
    metadata::merge(&mut merged, &wanted.metadata);
    reserve::render(&mut merged, reserved);
    // What a provider says itself was checked with its health; prices slipped in without the role were not.
    if !wanted.qualified && merged.is_object() && qualification::touches_pricing(&wanted.metadata) {
        qualification::recheck_pricing(&merged)?;
    }
    let mut row = WorkerRow {
        workspace_ref: wanted.workspace_ref.clone(),
        codex_home_ref: wanted.codex_home_ref.clone(),
        adapter: wanted.adapter.clone(),
        metadata: metadata::sized(&merged)?,
        ..known.clone()
    };
    if wanted.qualified {
        row.reputation.qualified_at = Some(moment.now);
    } else if metadata::differs_from_qualified(&metadata::read(&known.metadata)?, &merged) {
        row.reputation.qualified_at = None;
    }
    if row.status.is_at_rest() {
        enter(&mut row, WorkerStatus::Running, moment);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use oa_contract::{Caller, Nothing, Owner, matrix::WorkersStatus, wire::paths::WorkerPath};

    use super::*;
    use crate::{
        testing::{HealthRoute, World, bound_to, on_each_engine, operator, refused},
        workers::tests_support::{heartbeat, raw, register, stored, topics, user},
    };

    #[tokio::test]
    async fn a_new_worker_runs_and_its_registration_is_its_first_event() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker {
                worker_id: Some("  desktop:gpu-7 ".into()),
                metadata: Some(raw(r#"{"b":1,"a":{"x":2}}"#)),
                ..user(42)
            };
            let (status, reply) = register(&world, &operator(), body).await.expect("registered");
            let told = serde_json::to_string(&reply).expect("JSON");
            let at = world.clock_now();
            assert_eq!(status, 201);
            assert_eq!(
                told,
                format!(
                    r#"{{"worker":{{"worker":{{"worker_id":"desktop:gpu-7","owner":{{"user_id":42,"guest_scope":null}},"workspace_ref":null,"codex_home_ref":null,"adapter":"in_memory","status":"running","latest_seq":1,"metadata":{{"b":1,"a":{{"x":2}}}},"started_at":"{at}","stopped_at":null,"last_heartbeat_at":"{at}","updated_at":"{at}"}},"liveness":{{"heartbeat_age_ms":0,"heartbeat_stale_after_ms":120000,"heartbeat_state":"fresh"}}}}}}"#
                )
            );
            let (row, events) = stored(&world, "desktop:gpu-7").await;
            assert_eq!((row.projected.seq, row.projected.count, row.projected.status.as_str()), (1, 1, "running"));
            assert_eq!(events[0].event_type, "worker.started");
            assert_eq!(events[0].payload.get(), r#"{"status":"running","reason":"register"}"#);
            let topics = topics(&world).await;
            assert_eq!(topics["runtime.worker.desktop:gpu-7.lifecycle"], ["worker.running"]);
            assert_eq!(topics["runtime.fleet.user.42.workers"], ["worker.running"]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_worker_without_an_id_is_given_one() {
        let world = World::sqlite().await;
        for blank in [None, Some("   ".to_owned())] {
            let body = RegisterWorker { worker_id: blank, adapter: Some(" ".into()), ..user(1) };
            let (_, reply) = register(&world, &operator(), body).await.expect("registered");
            let worker = reply.worker.worker;
            let id = worker.worker_id.strip_prefix("codexw_").expect("the prefix").to_owned();
            assert_eq!(uuid::Uuid::parse_str(&id).expect("a UUID").get_version_num(), 7);
            assert_eq!(worker.adapter, "in_memory");
        }
    }

    #[tokio::test]
    async fn an_owner_has_so_many_workers_and_those_can_come_back() {
        for engine in [oa_store::EngineKind::Sqlite, oa_store::EngineKind::Postgres] {
            let world =
                World::with(engine, crate::Config { workers_max: 2, ..crate::testing::config() }).await;
            let enter = async |id: &str, owner: u64| {
                let body = RegisterWorker { worker_id: Some(id.into()), ..user(owner) };
                register(&world, &operator(), body).await
            };
            enter("a", 1).await.expect("registered");
            enter("b", 1).await.expect("registered");
            let refusal = refused(enter("c", 1).await);
            assert_eq!(refusal.code.name(), "conflict", "{engine:?}");
            assert!(refusal.message.contains("RUNTIME_WORKERS_MAX"), "{}", refusal.message);
            enter("a", 1).await.expect("one that is there comes back");
            enter("c", 2).await.expect("another owner has room");
        }
    }

    #[tokio::test]
    async fn names_that_could_not_be_kept_are_refused() {
        let world = World::sqlite().await;
        let long = "x".repeat(256);
        for (body, said) in [
            (
                RegisterWorker { worker_id: Some(long.clone()), ..user(1) },
                "worker_id must be at most 255 characters",
            ),
            (
                RegisterWorker { worker_id: Some("a\u{7}b".into()), ..user(1) },
                "worker_id must not contain control characters",
            ),
            (
                RegisterWorker { adapter: Some(long.clone()), ..user(1) },
                "adapter must be at most 255 characters",
            ),
            (
                RegisterWorker { workspace_ref: Some("x".repeat(4_097)), ..user(1) },
                "workspace_ref must be at most 4096 characters",
            ),
            (
                RegisterWorker { owner_guest_scope: Some(long), ..RegisterWorker::default() },
                "owner_guest_scope must be at most 255 characters",
            ),
            (
                RegisterWorker { metadata: Some(raw(&format!("{:?}", "x".repeat(70_000)))), ..user(1) },
                "metadata must be at most 65536 bytes, and it would be 70002",
            ),
        ] {
            assert_eq!(refused(register(&world, &operator(), body).await).message, said);
        }
        let widest = RegisterWorker { worker_id: Some("ü".repeat(255)), ..user(u64::MAX) };
        let (_, reply) = register(&world, &operator(), widest).await.expect("registered");
        assert_eq!(reply.worker.worker.owner.user_id, Some(u64::MAX));
    }

    #[tokio::test]
    async fn an_owner_registers_for_itself_and_does_not_take_over_anothers_worker() {
        let world = World::sqlite().await;
        let body = || RegisterWorker { worker_id: Some("w".into()), ..user(1) };
        let refusal = refused(register(&world, &bound_to(2), body()).await);
        assert_eq!(refusal.message, "this credential speaks for user:2, not for user:1");
        register(&world, &bound_to(1), body()).await.expect("registered");
        let theirs = RegisterWorker { worker_id: Some("w".into()), ..user(2) };
        let refusal = refused(register(&world, &operator(), theirs).await);
        assert_eq!(
            (refusal.code.name(), refusal.message.as_str()),
            ("forbidden", "owner mismatch for worker w")
        );
        assert_eq!(stored(&world, "w").await.0.owner, Owner::User(1));
    }

    #[tokio::test]
    async fn registering_again_merges_revives_and_counts_on() {
        on_each_engine(async |world: World| {
            let first = RegisterWorker {
                worker_id: Some("w".into()),
                workspace_ref: Some("ws".into()),
                adapter: Some("desktop".into()),
                metadata: Some(raw(r#"{"a":1,"b":{"x":1},"c":3}"#)),
                ..user(1)
            };
            register(&world, &operator(), first).await.expect("registered");
            let stop = oa_contract::wire::workers::ChangeWorkerStatus {
                owner_user_id: Some(1),
                owner_guest_scope: None,
                status: WorkerStatus::Failed,
                reason: None,
            };
            let path = WorkerPath { worker_id: "w".into() };
            world.call::<WorkersStatus>(&operator(), path, Nothing {}, stop).await.expect("failed");
            let failed_at = world.clock_now();
            world.clock.advance_ms(5_000);
            let again = RegisterWorker {
                worker_id: Some("w".into()),
                metadata: Some(raw(r#"{"b":{"y":2},"d":4}"#)),
                ..user(1)
            };
            let (status, reply) = register(&world, &operator(), again).await.expect("registered");
            let worker = reply.worker.worker;
            assert_eq!((status, worker.status, worker.latest_seq), (201, WorkerStatus::Running, 3));
            assert_eq!(worker.metadata.get(), r#"{"a":1,"b":{"y":2},"c":3,"d":4}"#);
            assert_eq!((worker.workspace_ref, worker.adapter.as_str()), (None, "in_memory"));
            assert_eq!((worker.stopped_at, worker.last_heartbeat_at), (None, Some(failed_at)));
            assert!(worker.started_at < worker.updated_at);
        })
        .await;
    }

    #[tokio::test]
    async fn a_worker_that_is_stopping_stays_so_and_its_log_does_not_say_otherwise() {
        let world = World::sqlite().await;
        let body = || RegisterWorker { worker_id: Some("w".into()), ..user(1) };
        register(&world, &operator(), body()).await.expect("registered");
        let stopping = oa_contract::wire::workers::ChangeWorkerStatus {
            owner_user_id: Some(1),
            owner_guest_scope: None,
            status: WorkerStatus::Stopping,
            reason: None,
        };
        let path = WorkerPath { worker_id: "w".into() };
        world.call::<WorkersStatus>(&operator(), path, Nothing {}, stopping).await.expect("stopping");
        let (_, reply) = register(&world, &operator(), body()).await.expect("registered");
        assert_eq!(reply.worker.worker.status, WorkerStatus::Stopping);
        let (row, events) = stored(&world, "w").await;
        assert_eq!(events[2].payload.get(), r#"{"status":"stopping","reason":"register"}"#);
        assert_eq!(row.projected.status, "stopping");
    }

    async fn provider(world: &World, route: &HealthRoute, caller: &Caller) -> WorkerReply {
        let metadata = format!(
            r#"{{"roles":["provider"],"provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"],"success_count":99,"quarantined":false,"failure_strikes":0}}"#,
            route.base()
        );
        let body = RegisterWorker { worker_id: Some("p".into()), metadata: Some(raw(&metadata)), ..user(1) };
        register(world, caller, body).await.expect("registered").1
    }

    #[tokio::test]
    async fn quarantine_and_strikes_survive_whatever_the_worker_says() {
        on_each_engine(async |world: World| {
            let route = HealthRoute::answering(200).await;
            let reply = provider(&world, &route, &operator()).await;
            let at = world.clock_now().offset();
            let own = format!(
                r#"{{"roles":["provider"],"provider_base_url":"{}","capabilities":["oa.sandbox_run.v1"]"#,
                route.base()
            );
            let known = format!(
                r#","qualified":true,"qualified_at":"{at}","failure_strikes":0,"quarantined":false,"success_count":0}}"#
            );
            assert_eq!(reply.worker.worker.metadata.get(), format!("{own}{known}"));

            let quarantine = async |tx: &mut Tx, (): &()| {
                let mut row = workers::get(tx, "p").await?.expect("the provider");
                row.reputation.failure_strikes = 3;
                row.reputation.quarantined_at = Some(row.updated_at);
                row.reputation.quarantine_reason = Some("verification_violations".into());
                workers::put(tx, &row).await
            };
            world.runtime.store.write("test.quarantine", key("p"), (), quarantine).await.expect("written");
            let known = format!(
                r#","qualified":true,"qualified_at":"{at}","failure_strikes":3,"quarantined":true,"success_count":0,"quarantine_reason":"verification_violations","quarantined_at":"{at}"}}"#
            );
            let reply = provider(&world, &route, &operator()).await;
            assert_eq!(reply.worker.worker.metadata.get(), format!("{own}{known}"));
            let patch = r#"{"quarantined":false,"failure_strikes":0,"quarantine_reason":null,"tier":"preferred","last_success_at":"x"}"#;
            let (_, reply) = heartbeat(&world, "p", 1, patch).await.expect("beaten");
            assert_eq!(reply.worker.worker.metadata.get(), format!("{own}{known}"));
        })
        .await;
    }

    #[tokio::test]
    async fn a_provider_that_does_not_qualify_leaves_no_trace() {
        let world = World::sqlite().await;
        let route = HealthRoute::answering(500).await;
        let metadata = format!(
            r#"{{"roles":["provider"],"provider_base_url":"{}/","capabilities":["oa.sandbox_run.v1"]}}"#,
            route.base()
        );
        let body = RegisterWorker { worker_id: Some("p".into()), metadata: Some(raw(&metadata)), ..user(1) };
        let refusal = refused(register(&world, &operator(), body).await);
        let said =
            format!("provider health check returned 500 Internal Server Error ({}/healthz)", route.base());
        assert_eq!((refusal.code.name(), refusal.message), ("invalid_request", said));
        let none = world
            .runtime
            .store
            .read("test.get", (), async |tx: &mut Tx, (): &()| workers::get(tx, "p").await);
        assert!(none.await.expect("read").is_none());
    }

    #[tokio::test]
    async fn prices_do_not_slip_in_behind_the_role() {
        let world = World::sqlite().await;
        let route = HealthRoute::answering(200).await;
        provider(&world, &route, &operator()).await;
        let body = RegisterWorker {
            worker_id: Some("p".into()),
            metadata: Some(raw(r#"{"pricing_stage":"bidding"}"#)),
            ..user(1)
        };
        let refusal = refused(register(&world, &operator(), body).await);
        assert_eq!(refusal.message, "pricing_stage Bidding is not enabled in this deployment");
        assert_eq!(stored(&world, "p").await.0.latest_seq, 1);
    }

    #[tokio::test]
    async fn everything_is_still_there_after_a_restart() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker { worker_id: Some("w".into()), ..user(1) };
            register(&world, &operator(), body).await.expect("registered");
            let world = world.restart().await;
            let (_, reply) = heartbeat(&world, "w", 1, "{}").await.expect("beaten");
            assert_eq!(reply.worker.worker.latest_seq, 2);
            assert_eq!(stored(&world, "w").await.0.projected.count, 2);
        })
        .await;
    }
}

//! Whose word a settlement takes: another owner's provider is paid for what our own dispatch received, and for
//! nothing else.

use oa_contract::{Timestamp, canonical};
use oa_store::tables::market_dispatches::{self, DispatchRow, DispatchState, JobKey};

use super::*;
use crate::{
    marketplace::reserve::{self, AllIn, Wanted},
    testing::refused,
};
use oa_ledger::{TransferId, budget::Place};

/// A response whose evidence is sound.
pub fn sound() -> SandboxRunResponse {
    let mut response = response();
    response.runs[0].stdout_sha256 =
        "sha256:98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4".into();
    response.runs[0].stderr_sha256 =
        format!("sha256:{}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    response.runs[0].stdout_preview = Some("hi\n".into());
    response
}

/// As dispatch leaves it: the response, and the price held.
pub async fn dispatched(world: &World, run_id: Option<Uuid>, response: &SandboxRunResponse) -> String {
    let dispatch_id = format!("dsp_{}", world.runtime.ids.uuid32());
    let now = world.clock_now();
    let hold_id = reserve::hold_id(&dispatch_id, 1).expect("an id");
    let row = DispatchRow {
        dispatch_id: dispatch_id.clone(),
        job: JobKey { owner: owner(), run_id, job_hash: J30.into(), attempt: 1 },
        state: DispatchState::Answered,
        calls: 1,
        worker_id: Some("worker:a".into()),
        provider_id: Some("provider-a".into()),
        quote_id: None,
        hold_id: Some(hold_id.to_string()),
        request_sha256: J30.into(),
        response_sha256: Some(canonical::hash_of(response).expect("a hash")),
        signed_by: None,
        signature: None,
        reply: None,
        busy_until: None,
        opened_at: now,
        changed_at: now,
        answered_at: Some(now),
        place: Place { run: run_id, ..Place::default() },
    };
    let write = async |tx: &mut Tx, (row, hold_id, now): &(DispatchRow, TransferId, Timestamp)| {
        market_dispatches::put(tx, row).await?;
        let wanted = Wanted {
            id: hold_id.clone(),
            owner: owner(),
            place: row.place.clone(),
            worker_id: "worker:a".into(),
            price: AllIn { provider: msats(1000), operator_fee: Msats::ZERO, policy_adder: Msats::ZERO },
            expires_at: now.plus_seconds(3_600),
            reference: row.dispatch_id.clone(),
        };
        reserve::hold(tx, &wanted, *now).await
    };
    world.runtime.store.write("test.dispatch", (), (row, hold_id, now), write).await.expect("dispatched");
    dispatch_id
}

fn of(run: Uuid, response: SandboxRunResponse) -> SettleSandboxRun {
    SettleSandboxRun { response, ..example(run) }
}

#[tokio::test]
async fn anothers_provider_is_paid_for_what_dispatch_received_only() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 999).await;
        let run = begin(&world).await;
        let refusal = refused(settle(&world, of(run, sound())).await);
        assert_eq!(
            (refusal.code.name(), refusal.message.contains("was not dispatched")),
            ("invalid_request", true)
        );
        let id = dispatched(&world, None, &sound()).await;
        assert_eq!(account(&world, 11).await, (10_000_000_000, 1000, 0));
        let named = SettleSandboxRun { dispatch_id: Some("dsp_other".into()), ..of(run, sound()) };
        assert_eq!(
            refused(settle(&world, named).await).message,
            "dispatch_id dsp_other is no dispatch of this job"
        );
        let refusal = refused(settle(&world, of(run, response())).await);
        assert_eq!(
            (refusal.code.name(), refusal.message),
            ("conflict", format!("response is not the one that dispatch {id} received"))
        );
        let settled = settle(&world, of(run, sound())).await.expect("settled");
        assert_eq!(
            (settled.settlement_status.name(), settled.dispatch_id.as_deref()),
            ("released", Some(id.as_str()))
        );
        assert_eq!(
            account(&world, 11).await,
            (10_000_000_000, 0, 1000),
            "the hold of the dispatch was captured"
        );
        // With or without its name, it is the same settlement.
        let named = SettleSandboxRun { dispatch_id: Some(id), ..of(run, sound()) };
        assert_eq!(settle(&world, named).await.expect("the first answer"), settled);
        let elsewhere = begin(&world).await;
        let refusal = refused(settle(&world, of(elsewhere, sound())).await);
        assert!(refusal.message.contains("settled in another run already"), "{}", refusal.message);
        assert_eq!((account(&world, 11).await.2, events(&world, elsewhere).await.len()), (1000, 0));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn the_dispatch_of_the_run_comes_before_one_outside_of_any() {
    let world = World::with(EngineKind::Sqlite, strict()).await;
    let _route = provider(&world, "worker:a", "provider-a", 999).await;
    let run = begin(&world).await;
    let (outside, inside) =
        (dispatched(&world, None, &sound()).await, dispatched(&world, Some(run), &sound()).await);
    let settled = settle(&world, of(run, sound())).await.expect("settled");
    assert_eq!(settled.dispatch_id, Some(inside));
    let other = begin(&world).await;
    assert_eq!(settle(&world, of(other, sound())).await.expect("settled").dispatch_id, Some(outside));
    everything_adds_up(&world).await;
}

#[tokio::test]
async fn evidence_that_is_none_strikes_anothers_provider() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 999).await;
        let run = begin(&world).await;
        let mut lying = sound();
        lying.runs[0].stdout_preview = Some("ho\n".into());
        dispatched(&world, None, &lying).await;
        let settled = settle(&world, of(run, lying)).await.expect("settled");
        assert_eq!(settled.violations, ["stdout_preview does not hash to stdout_sha256 at index 0"]);
        assert_eq!((settled.settlement_status.name(), settled.exit_code), ("withheld", 1));
        assert_eq!(
            (standing(&world, "worker:a").await, account(&world, 11).await),
            ((1, 0, false), (10_000_000_000, 0, 0))
        );
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_hold_that_expired_is_made_anew() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 999).await;
        let run = begin(&world).await;
        dispatched(&world, None, &sound()).await;
        world.clock.advance_ms(3_600_000);
        crate::background::holds::sweep_once(&world.runtime).await.expect("swept");
        assert_eq!(account(&world, 11).await, (10_000_000_000, 0, 0));
        assert_eq!(
            settle(&world, of(run, sound())).await.expect("settled").settlement_status.name(),
            "released"
        );
        assert_eq!(account(&world, 11).await, (10_000_000_000, 0, 1000));
        everything_adds_up(&world).await;
    })
    .await;
}

/// A response with one thing changed. Whatever it is, it is no longer what was received.
pub fn mutated(n: u64) -> SandboxRunResponse {
    let mut value = serde_json::to_value(sound()).expect("JSON");
    let runs = |value: &mut Value| value["runs"][0].as_object_mut().expect("a run").clone();
    match n % 10 {
        0 => value["runs"][0]["exit_code"] = json!(n + 1),
        1 => value["runs"][0]["duration_ms"] = json!(n + 1_000),
        2 => value["runs"][0]["stdout_sha256"] = json!(format!("sha256:{n:064x}")),
        3 => value["runs"][0]["stderr_sha256"] = json!(format!("{n}")),
        4 => value["runs"][0]["stdout_preview"] = json!(format!("hi {n}\n")),
        5 => value["artifacts"] = json!([{"path": format!("p{n}"), "sha256": "s", "size_bytes": n}]),
        6 => value["env_info"]["hostname"] = json!(format!("h{n}")),
        7 => value["provenance"]["model_id"] = json!(format!("m{n}")),
        8 => {
            value["runs"] = json!([runs(&mut value), {"cmd": format!("c{n}"), "exit_code": 0, "duration_ms": 1, "stdout_sha256": "", "stderr_sha256": ""}])
        }
        _ => {
            value["status"] = json!((["failed", "timeout", "cancelled", "error"])[(n / 10 % 4) as usize]);
            value["error"] = json!(format!("e{n}"));
        }
    }
    serde_json::from_value(value).expect("a response")
}

#[tokio::test]
async fn a_thousand_mutated_responses_are_not_paid() {
    let world = World::with(EngineKind::Sqlite, strict()).await;
    for (worker, owner) in [("worker:a", 999), ("worker:own", 11)] {
        let _route = provider(&world, worker, "provider-a", owner).await;
    }
    let run = begin(&world).await;
    dispatched(&world, None, &sound()).await;
    for n in 0..1_000 {
        let refusal = refused(settle(&world, of(run, mutated(n))).await);
        assert_eq!(refusal.code.name(), "conflict", "{n}: {}", refusal.message);
        // Nor by way of a provider of one's own: what was dispatched is what is settled.
        let own = SettleSandboxRun { provider_worker_id: "worker:own".into(), ..of(run, mutated(n)) };
        assert_eq!(refused(settle(&world, own).await).code.name(), "conflict", "{n}");
    }
    assert_eq!((account(&world, 11).await, events(&world, run).await.len()), ((10_000_000_000, 1000, 0), 0));
    assert_eq!(standing(&world, "worker:a").await, (0, 0, false), "nor is anybody struck for them");
    assert_eq!(settle(&world, of(run, sound())).await.expect("settled").settlement_status.name(), "released");
    everything_adds_up(&world).await;
}

#[tokio::test]
async fn a_lenient_instance_believes_what_it_is_told() {
    let world = World::with(EngineKind::Sqlite, lenient()).await;
    let _route = provider(&world, "worker:a", "provider-a", 999).await;
    let run = begin(&world).await;
    assert_eq!(settle(&world, example(run)).await.expect("settled").settlement_status.name(), "released");
}

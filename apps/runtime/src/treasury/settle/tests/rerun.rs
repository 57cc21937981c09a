//! Jobs that are run once more before they are paid: reserved, run by others, settled.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use oa_contract::wire::{jobs::RunOutcome, treasury::ReexecutionOutcome};

use super::*;
use crate::{
    Runtime,
    background::reconciler,
    testing::refused,
    treasury::settle::reexecution::{Observation, Reexecutor, Rerun, Running},
};

/// Others that answer one after the other; then nobody.
#[derive(Default)]
struct Others {
    answers: Mutex<VecDeque<SandboxRunResponse>>,
    asked: Mutex<Vec<Vec<String>>>,
    /// The process dies while somebody runs the job.
    dies: bool,
}

impl Reexecutor for Others {
    fn rerun<'a>(&'a self, _: &'a Runtime, rerun: Rerun<'a>) -> Running<'a> {
        Box::pin(async move {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(rerun.exclude.to_vec());
            assert!(!self.dies, "the process died");
            let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let worker_id = format!("other:{}", asked.len());
            Ok(answer.map(|response| Observation {
                worker_id,
                owner: Owner::User(998),
                trusted: false,
                impartial: true,
                response,
            }))
        })
    }
}

fn always() -> Config {
    Config { reexecution_sample_bps: 10_000, ..strict() }
}

fn others(world: &mut World, answers: Vec<SandboxRunResponse>, dies: bool) -> Arc<Others> {
    let others = Arc::new(Others { answers: Mutex::new(answers.into()), dies, ..Others::default() });
    Arc::get_mut(&mut world.runtime).expect("nobody else holds it").reexecutor = others.clone();
    others
}

fn failed() -> SandboxRunResponse {
    let mut response = response();
    response.runs[0].exit_code = 101;
    response.status = RunOutcome::Failed;
    response
}

#[tokio::test]
async fn what_others_confirm_is_paid() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let others = others(&mut world, vec![response()], false);
        let run = begin(&world).await;
        let settled = settle(&world, example(run)).await.expect("settled");
        let report = settled.reexecution.as_ref().expect("a report");
        assert_eq!(
            (report.outcome, settled.settlement_status.name()),
            (ReexecutionOutcome::Confirmed, "released")
        );
        assert_eq!(*others.asked.lock().expect("asked"), [["worker:a"]]);
        assert_eq!(
            names(&events(&world, run).await),
            ["BudgetReserved", "VerificationPassed", "verification", "payment", "PaymentReleased"]
        );
        assert_eq!(settle(&world, example(run)).await.expect("the first answer"), settled);
        assert_eq!(others.asked.lock().expect("asked").len(), 1, "a replay runs nothing");
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_cheat_is_unpaid_struck_and_quarantined_with_the_events_as_evidence() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let others = others(&mut world, vec![failed(), failed()], false);
        let run = begin(&world).await;
        let settled = settle(&world, example(run)).await.expect("settled");
        assert_eq!((settled.settlement_status.name(), settled.verification_passed), ("withheld", false));
        assert_eq!(settled.violations, ["re-execution refutes the response: status, exit_code[0]"]);
        assert_eq!(others.asked.lock().expect("asked")[1], ["worker:a", "other:1"]);
        assert_eq!(standing(&world, "worker:a").await, (1, 0, true));
        let row = tests_support::stored(&world, "worker:a").await.0;
        assert_eq!(
            (row.status.name(), row.reputation.quarantine_reason.as_deref()),
            ("failed", Some("reexecution_refuted"))
        );
        assert_eq!((account(&world, 11).await, paid(&world, run).await), ((10_000_000_000, 0, 0), 0));
        let incidents = incidents(&world).await;
        assert_eq!(incident_types(&incidents), ["compute_verification_violation", "provider_quarantined"]);
        let found = incidents.iter().find(|one| one.incident_type.starts_with("compute")).expect("one");
        let evidence: Value =
            serde_json::from_str(found.evidence.as_ref().expect("evidence").get()).expect("JSON");
        assert_eq!(evidence["reexecution"]["outcome"], "refuted");
        assert_eq!(evidence["reexecution"]["observed"].as_object().expect("others").len(), 2);
        let kept = events(&world, run).await;
        let seqs: Vec<u64> = evidence["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| event["seq"].as_u64().expect("a number"))
            .collect();
        let failed =
            names(&kept).iter().position(|name| name == "VerificationFailed").expect("the event") as u64;
        assert!(seqs.contains(&(failed + 2)), "{seqs:?}");
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn one_word_against_another_pays_nobody_and_strikes_nobody() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        others(&mut world, vec![failed()], false);
        let run = begin(&world).await;
        let settled = settle(&world, example(run)).await.expect("settled");
        assert_eq!(settled.reexecution.expect("a report").outcome, ReexecutionOutcome::Disputed);
        assert_eq!((settled.settlement_status.name(), settled.violations.len()), ("withheld", 0));
        assert_eq!(standing(&world, "worker:a").await, (0, 0, false));
        assert_eq!(incident_types(&incidents(&world).await), ["compute_reexecution_dispute"]);
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_share_is_told_by_two_to_one() {
    let mut world = World::with(EngineKind::Sqlite, always()).await;
    let _route = provider(&world, "worker:a", "provider-a", 11).await;
    others(&mut world, vec![failed(), response()], false);
    let run = begin(&world).await;
    let settled = settle(&world, example(run)).await.expect("settled");
    assert_eq!(
        (settled.reexecution.expect("a report").outcome, settled.settlement_status.name()),
        (ReexecutionOutcome::Confirmed, "released")
    );
    // Whoever did not run it to its end saw nothing.
    let mut late = response();
    late.status = RunOutcome::Timeout;
    others(&mut world, vec![late.clone(), late, response()], false);
    let settled = settle(&world, another_job(example(run), "other")).await.expect("settled");
    assert_eq!(settled.reexecution.expect("a report").observers, ["other:3"]);
}

#[tokio::test]
async fn an_untrusted_stranger_is_not_paid_unconfirmed() {
    on_each(strict, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 999).await;
        let struck = async |tx: &mut Tx, (): &()| {
            let mut row = oa_store::tables::workers::get(tx, "worker:a").await?.expect("the worker");
            row.reputation.failure_strikes = 2;
            oa_store::tables::workers::put(tx, &row).await
        };
        world.runtime.store.write("test.strike", (), (), struck).await.expect("struck");
        others(&mut world, vec![], false);
        let run = begin(&world).await;
        evidence::dispatched(&world, None, &evidence::sound()).await;
        let body = SettleSandboxRun { response: evidence::sound(), ..example(run) };
        let refusal = refused(settle(&world, body.clone()).await);
        assert_eq!(refusal.code.name(), "dependency_unavailable");
        assert_eq!(
            (account(&world, 11).await, names(&events(&world, run).await)),
            ((10_000_000_000, 1000, 0), vec!["BudgetReserved".to_owned()])
        );
        others(&mut world, vec![evidence::sound()], false);
        let settled = settle(&world, body).await.expect("settled");
        assert_eq!((settled.settlement_status.name(), events(&world, run).await.len()), ("released", 5));
        everything_adds_up(&world).await;
    })
    .await;
}

/// Reserves, and dies before it is settled.
async fn die(world: &mut World, run: Uuid) {
    others(world, vec![], true);
    let runtime = world.runtime.clone();
    let died = tokio::spawn(async move {
        let ask = oa_contract::Ask {
            path: Nothing {},
            query: Nothing {},
            body: example(run),
            caller: operator(),
            meta: Default::default(),
        };
        let _ = oa_contract::Handle::<TreasurySettleSandboxRun>::handle(&*runtime, ask).await;
    });
    assert!(died.await.is_err(), "it was to die");
}

#[tokio::test]
async fn a_process_that_dies_between_its_turns_loses_nothing_and_pays_nothing_twice() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        die(&mut world, run).await;
        let mut world = world.restart().await;
        // The run says what the money does.
        assert_eq!(names(&events(&world, run).await), ["BudgetReserved"]);
        assert_eq!(account(&world, 11).await, (10_000_000_000, 1000, 0));
        assert_eq!(summary(&world, 11).await.recent_jobs[0].status.name(), "reserved");
        let dearer = SettleSandboxRun { amount_msats: msats(1), ..example(run) };
        assert_eq!(
            refused(settle(&world, dearer).await).message,
            "job already reserved with a different amount"
        );
        others(&mut world, vec![response()], false);
        settle(&world, example(run)).await.expect("settled");
        assert_eq!(
            (events(&world, run).await.len(), account(&world, 11).await),
            (5, (10_000_000_000, 0, 1000))
        );
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_reservation_nobody_settles_is_given_back_and_made_anew_when_somebody_does() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        die(&mut world, run).await;
        world.clock.advance_ms(59_000);
        assert_eq!(reconcile(&world, 60).await.expired_reservations, 0);
        world.clock.advance_ms(1_000);
        let told = reconcile(&world, 60).await;
        assert_eq!((told.expired_reservations, told.freed_msats_total), (1, msats(1000)));
        let job = serde_json::to_value(&told.updated_jobs[0]).expect("JSON");
        assert_eq!(
            (&job["status"], &job["withheld_reason"]),
            (&json!("withheld"), &json!("reservation_expired"))
        );
        assert_eq!((&job["verification_passed"], &job["exit_code"]), (&Value::Null, &Value::Null));
        assert_eq!(reconcile(&world, 0).await.expired_reservations, 0);
        assert_eq!(
            (account(&world, 11).await, summary(&world, 11).await.withheld_count),
            ((10_000_000_000, 0, 0), 1)
        );
        assert_eq!(names(&events(&world, run).await), ["BudgetReserved", "BudgetReleased"]);
        everything_adds_up(&world).await;
        others(&mut world, vec![response()], false);
        settle(&world, example(run)).await.expect("settled");
        let told = summary(&world, 11).await;
        assert_eq!((told.withheld_count, told.released_count, account(&world, 11).await.2), (0, 1, 1000));
        assert_eq!(
            names(&events(&world, run).await)[..3],
            ["BudgetReserved", "BudgetReleased", "BudgetReserved"]
        );
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn one_replica_reconciles_and_another_takes_over_when_it_is_gone() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        die(&mut world, run).await;
        let round = async |me: &str| {
            let leader = reconciler::leader(&world.runtime, me);
            reconciler::round(&world.runtime, &leader).await.expect("a round")
        };
        let first = round("one").await.expect("it leads");
        assert_eq!((first.expired, first.compared, first.findings), (0, 1, 0));
        assert_eq!(round("two").await, None);
        world.clock.advance_ms(3_600_000);
        assert_eq!(round("two").await.expect("it leads now").expired, 1);
        assert_eq!(round("one").await, None);
        let (one, two) = {
            world.clock.advance_ms(180_000);
            tokio::join!(round("one"), round("three"))
        };
        assert_eq!(usize::from(one.is_some()) + usize::from(two.is_some()), 1);
    })
    .await;
}

/// What a provider may say of itself (how long it took, where, with what) is no evidence; everything else is.
#[tokio::test]
async fn a_thousand_responses_that_others_do_not_confirm_are_not_paid() {
    let mut world = World::with(EngineKind::Sqlite, always()).await;
    let _route = provider(&world, "worker:a", "provider-a", 11).await;
    let run = begin(&world).await;
    let mut asked = 0;
    for n in (0..).filter(|n| !matches!(n % 10, 1 | 6 | 7)).take(1_000) {
        others(&mut world, vec![evidence::sound(), evidence::sound()], false);
        let mut body = SettleSandboxRun { response: evidence::mutated(n), ..example(run) };
        // Each of them is another job: the same one is not settled twice.
        body.request.env.insert("N".into(), n.to_string());
        let settled = settle(&world, body).await.expect("settled");
        assert_eq!(settled.settlement_status.name(), "withheld", "{n}: {settled:?}");
        assert!(!settled.violations.is_empty(), "{n}");
        asked += 1;
    }
    assert_eq!((asked, account(&world, 11).await), (1_000, (10_000_000_000, 0, 0)));
    assert_eq!(summary(&world, 11).await.released_count, 0);
    everything_adds_up(&world).await;
}

#[tokio::test]
async fn settlements_at_one_time_that_wait_for_others_have_one_effect() {
    on_each(always, async |mut world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        others(&mut world, vec![response(); 32], false);
        let run = begin(&world).await;
        let all = futures_util::future::join_all((0..32).map(|_| settle(&world, example(run)))).await;
        let first = all[0].as_ref().expect("settled");
        for one in &all {
            assert_eq!(one.as_ref().expect("settled"), first);
        }
        assert_eq!((events(&world, run).await.len(), account(&world, 11).await.2), (5, 1000));
        assert_eq!(standing(&world, "worker:a").await, (0, 1, false));
        everything_adds_up(&world).await;
    })
    .await;
}

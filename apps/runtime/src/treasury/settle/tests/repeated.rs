//! One settlement, however often and in whatever form it is asked for (§10.4, the idempotency matrix; §17.2).

use oa_contract::{Caller, wire::jobs::RunOutcome};

use super::*;
use crate::testing::{bound_to, refused};

#[tokio::test]
async fn thirty_two_settlements_at_one_time_have_one_effect() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let all = (0..32).map(|_| settle(&world, example(run)));
        let all = futures_util::future::join_all(all).await;
        let first = all[0].as_ref().expect("settled");
        assert!(all.iter().all(|one| one.as_ref().expect("settled") == first));
        assert_eq!((events(&world, run).await.len(), account(&world, 11).await.2), (5, 1000));
        assert_eq!(standing(&world, "worker:a").await, (0, 1, false));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn another_content_in_the_same_run_is_a_conflict() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        settle(&world, example(run)).await.expect("settled");
        let said = async |body: SettleSandboxRun| {
            let refusal = refused(settle(&world, body).await);
            (refusal.code.name(), refusal.message)
        };
        let dearer = SettleSandboxRun { amount_msats: msats(1001), ..example(run) };
        assert_eq!(said(dearer).await, ("conflict", "job already reserved with a different amount".into()));
        let mut failed = example(run);
        failed.response.runs[0].exit_code = 1;
        failed.response.status = RunOutcome::Failed;
        assert_eq!(said(failed).await, ("conflict", "job already settled with conflicting outcome".into()));
        let other = SettleSandboxRun { provider_id: "provider-b".into(), ..example(run) };
        assert_eq!(said(other).await.0, "conflict");
        let quoted = SettleSandboxRun { quote: Some(quote(&world, 0)), ..example(run) };
        assert_eq!(said(quoted).await.0, "conflict");
        assert_eq!((events(&world, run).await.len(), account(&world, 11).await.2), (5, 1000));
        assert_eq!(standing(&world, "worker:a").await, (0, 1, false));
    })
    .await;
}

#[tokio::test]
async fn other_owners_runs_and_attempts_are_other_settlements() {
    on_each(lenient, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let (one, two) = (begin(&world).await, begin(&world).await);
        settle(&world, example(one)).await.expect("settled");
        settle(&world, example(two)).await.expect("settled");
        settle(&world, SettleSandboxRun { owner_user_id: Some(12), ..example(one) })
            .await
            .expect_err("one run, one name for its events");
        let three = begin(&world).await;
        settle(&world, SettleSandboxRun { owner_user_id: Some(12), ..example(three) })
            .await
            .expect("settled");
        let again = SettleSandboxRun { attempt: Some(2), ..example(one) };
        settle(&world, again).await.expect("settled");
        assert_eq!((account(&world, 11).await.2, account(&world, 12).await.2), (3000, 1000));
        assert_eq!((events(&world, one).await.len(), events(&world, two).await.len()), (10, 5));
        assert_eq!((paid(&world, one).await, paid(&world, two).await), (2000, 1000));
        assert_eq!(standing(&world, "worker:a").await, (0, 4, false));
        everything_adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_settlement_outlives_a_restart() {
    on_each(strict, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let run = begin(&world).await;
        let first = settle(&world, example(run)).await.expect("settled");
        let world = world.restart().await;
        assert_eq!(settle(&world, example(run)).await.expect("the first answer"), first);
        assert_eq!((events(&world, run).await.len(), account(&world, 11).await.2), (5, 1000));
    })
    .await;
}

#[tokio::test]
async fn nobody_settles_in_anothers_name_or_run() {
    on_each(lenient, async |world: World| {
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let begun = world.call::<RunsStart>(&bound_to(12), Nothing {}, Nothing {}, StartRun::default()).await;
        let theirs = begun.expect("begun").1.run.id;
        let ask = async |caller: &Caller, body: SettleSandboxRun| {
            let asked = world.call::<TreasurySettleSandboxRun>(caller, Nothing {}, Nothing {}, body).await;
            refused(asked.map(|(_, settlement)| settlement)).code.name()
        };
        assert_eq!(ask(&bound_to(12), example(theirs)).await, "forbidden");
        assert_eq!(ask(&bound_to(11), example(theirs)).await, "not_found");
        assert_eq!(ask(&operator(), example(theirs)).await, "not_found", "the payer does not own the run");
        assert_eq!(events(&world, theirs).await.len(), 0);
        let query = ComputeSummaryQuery { owner_user_id: Some(11), owner_guest_scope: None };
        let looked = world.call::<TreasuryComputeSummary>(&bound_to(12), Nothing {}, query, Nothing {}).await;
        assert_eq!(refused(looked.map(|(_, summary)| summary)).code.name(), "forbidden");
    })
    .await;
}

/// A generator of numbers that depend on nothing but the seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One settlement among a few owners, runs, jobs and attempts, honest or not, with a quote or without.
fn drawn(world: &World, runs: &[Uuid], dice: &mut Dice) -> SettleSandboxRun {
    let owner = 11 + dice.below(2);
    let mut body = another_job(example(runs[dice.below(3) as usize]), &format!("job {}", dice.below(4)));
    body.owner_user_id = Some(owner);
    body.attempt = Some(1 + u32::try_from(dice.below(2)).expect("small"));
    body.amount_msats = msats(990 + dice.below(3) * 10);
    if dice.below(2) == 0 {
        let mut quoted = quote(world, i64::try_from(dice.below(70)).expect("small"));
        quoted.objective_hash = job_hash(&body.request).expect("a hash");
        quoted.quote_sha256 = oa_market::quote::hash(&quoted);
        quoted.quote_id = format!("quote_{}", short(&quoted.quote_sha256));
        body.quote = Some(quoted);
    }
    match dice.below(5) {
        0 => body.response.runs[0].cmd = "cheap".into(),
        1 => {
            body.response.runs[0].exit_code = 1;
            body.response.status = RunOutcome::Failed;
        }
        _ => {}
    }
    body
}

/// Whatever is asked in whatever order: the books add up, the sums are those of the answers, nobody is paid what
/// was not verified, and each answer stands.
#[tokio::test]
async fn random_settlements_add_up() {
    for seed in 1..=4 {
        let world = World::with(EngineKind::Sqlite, lenient()).await;
        let _route = provider(&world, "worker:a", "provider-a", 11).await;
        let runs = [begin(&world).await, begin(&world).await, begin(&world).await];
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut answers: std::collections::BTreeMap<String, (SettleSandboxRun, Settlement)> =
            Default::default();
        for _ in 0..150 {
            world.clock.advance_ms(i64::try_from(dice.below(2_000)).expect("small"));
            let body = drawn(&world, &runs, &mut dice);
            if let Ok(settled) = settle(&world, body.clone()).await {
                assert!(settled.settlement_status.name() == "withheld" || settled.verification_passed);
                let known = answers.entry(settled.settlement_id.clone()).or_insert((body, settled.clone()));
                assert_eq!(known.1, settled, "the same name, another answer");
            }
        }
        assert!(answers.len() >= 15, "only {} were settled", answers.len());
        for (body, settled) in answers.values() {
            assert_eq!(settle(&world, body.clone()).await.expect("the first answer"), *settled);
        }
        for owner in [11, 12] {
            let of = answers.values().filter(|(body, settled)| {
                body.owner_user_id == Some(owner) && settled.settlement_status.name() == "released"
            });
            let (paid, spent): (u64, u64) = of
                .map(|(body, settled)| {
                    let fee = body.quote.as_ref().map_or(0, |quote| quote.operator_fee_msats.get());
                    (settled.amount_msats.get(), settled.amount_msats.get() + fee)
                })
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            assert_eq!(summary(&world, owner).await.released_msats_total, msats(paid));
            assert_eq!(account(&world, owner).await, (10_000_000_000, 0, spent));
        }
        everything_adds_up(&world).await;
    }
}

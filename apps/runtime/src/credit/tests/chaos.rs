//! Whatever is asked in whatever order, broken off anywhere, with a store that fails anywhere and a wallet in any mood: an
//! envelope's provider is paid at most once, the books say what the wallet did, and they add up after every step.

use std::{collections::BTreeMap, future::Future};

use futures_util::future::{Either, select};

use oa_contract::{matrix::CreditRepay, wire::credit::Repay};
use oa_store::tables::credit_sums;
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};

use super::*;
use crate::credit::receipts;

const DEPOSIT: u64 = 50_000_000;
const SCOPES: u8 = 4;
const INVOICES: u8 = 3;
/// Everything that credit writes to.
const WRITTEN: [&str; 15] = [
    "credit_offers",
    "credit_envelopes",
    "credit_settlements",
    "credit_payments",
    "credit_receipts",
    "credit_verifications",
    "credit_loans",
    "liquidity_quotes",
    "liquidity_payments",
    "liquidity_receipts",
    "ledger_accounts",
    "ledger_transfers",
    "ledger_legs",
    "ledger_entries",
    "idempotency_records",
];

/// What somebody asks, or the background does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Issue(u8),
    Settle { scope: u8, invoice: u8, passed: bool },
    Repay(u8),
    Sweep,
    Resolve,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Ask(Step),
    /// Broken off after so many polls.
    Broken {
        step: Step,
        polls: u32,
    },
    /// At one time.
    Both(Step, Step),
    Turn(Mood),
    Advance(u16),
    /// Until debts are due.
    FallDue,
    /// From here on nothing can be written to this table.
    Break(u8),
    Mend,
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SCOPES).prop_map(Step::Issue),
        8 => (0..SCOPES, 0..INVOICES, prop::bool::weighted(0.9))
            .prop_map(|(scope, invoice, passed)| Step::Settle { scope, invoice, passed }),
        2 => (0..SCOPES).prop_map(Step::Repay),
        1 => Just(Step::Sweep),
        2 => Just(Step::Resolve),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    let mood = prop_oneof![Just(Mood::Pays), Just(Mood::Refuses), Just(Mood::Silent), Just(Mood::Lost)];
    prop_oneof![
        12 => any_step().prop_map(Act::Ask),
        // Stores take their time: from the first await to beyond the last.
        6 => (any_step(), 0..16_u32).prop_map(|(step, power)| Act::Broken { step, polls: (1 << power) - 1 }),
        5 => (any_step(), any_step()).prop_map(|(one, other)| Act::Both(one, other)),
        3 => mood.prop_map(Act::Turn),
        2 => (0..700_u16).prop_map(Act::Advance),
        1 => Just(Act::FallDue),
        3 => (0..WRITTEN.len() as u8).prop_map(Act::Break),
        2 => Just(Act::Mend),
        1 => Just(Act::Restart),
    ]
}

async fn yields(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Goes away before the answer, at one await or another.
async fn broken_off(asked: impl Future<Output = ()>, polls: u32) {
    match select(Box::pin(asked), Box::pin(yields(polls))).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

async fn verifications_of(world: &World, scope: u8) {
    for n in 0..3 {
        let (name, receipt) = (format!("stl_{scope}_{n}"), format!("r{scope}"));
        verified(world, &name, &receipt, &format!("job-{scope}"), 20_000, true).await;
    }
}

fn body(envelope_id: &str, scope: u8, number: u8, passed: bool) -> SettleEnvelope {
    SettleEnvelope {
        verification_passed: passed,
        verification_receipt_sha256: format!("r{scope}"),
        ..settlement(envelope_id, &invoice(&format!("i{scope}-{number}"), 20_000))
    }
}

async fn play(engine: EngineKind, acts: Vec<Act>) {
    let purse = Purse::new(Mood::Pays);
    let mut config = strict();
    // Losses are part of the game.
    config.credit.circuit_breaker_min_sample = 1_000;
    config.credit.max_outstanding_envelopes_per_agent = 9;
    let mut world = World::paying(engine, config, Some(purse.clone())).await;
    deposited(&world, DEPOSIT).await;
    let envelopes = Mutex::new(BTreeMap::new());
    for scope in 0..SCOPES {
        verifications_of(&world, scope).await;
    }
    for act in acts {
        match act {
            Act::Ask(step) => take(&world, &envelopes, step).await,
            Act::Broken { step, polls } => broken_off(take(&world, &envelopes, step), polls).await,
            Act::Both(one, other) => {
                tokio::join!(take(&world, &envelopes, one), take(&world, &envelopes, other));
            }
            Act::Turn(mood) => purse.turn(mood),
            Act::Advance(seconds) => world.clock.advance_ms(i64::from(seconds) * 1_000),
            Act::FallDue => world.clock.advance_ms(90_000_000),
            Act::Break(table) => world.break_writes_to(Some(WRITTEN[usize::from(table)])).await,
            Act::Mend => world.break_writes_to(None).await,
            Act::Restart => {
                // A store that was meddled with does not open.
                world.break_writes_to(None).await;
                world = world.restart().await;
            }
        }
        adds_up(&world).await;
    }
    let envelopes = envelopes.into_inner().expect("envelopes");
    world.break_writes_to(None).await;
    settle_down(&world, &purse).await;
    judge(&world, &purse, &envelopes).await;
}

async fn take(world: &World, envelopes: &Mutex<BTreeMap<u8, String>>, step: Step) {
    let envelope_of = |scope: u8| envelopes.lock().expect("envelopes").get(&scope).cloned();
    match step {
        Step::Issue(scope) => {
            let Ok(offer) = offer(world, asking(&format!("job-{scope}"), 100)).await else { return };
            // Its name is known before it is there, whoever goes away meanwhile.
            let id = receipts::envelope_id(&receipts::envelope_fingerprint(&offer.offer_id, &key("c")));
            envelopes.lock().expect("envelopes").insert(scope, id.clone());
            if let Ok(reply) = envelope(world, &offer.offer_id, "c").await {
                assert_eq!(reply.envelope.envelope_id, id);
            }
        }
        Step::Settle { scope, invoice, passed } => {
            let Some(id) = envelope_of(scope) else { return };
            let _ = settle(world, body(&id, scope, invoice, passed)).await;
        }
        Step::Repay(scope) => {
            let Some(id) = envelope_of(scope) else { return };
            repay(world, &id, scope).await;
        }
        Step::Sweep => drop(crate::background::credit::sweep_once(&world.runtime).await),
        Step::Resolve => drop(world.runtime.payments.resolve_due().await),
    }
}

/// Somebody pays back what was drawn, or some of it.
async fn repay(world: &World, envelope_id: &str, scope: u8) {
    let look = async |tx: &mut Tx, id: &String| table::settlement(tx, id).await;
    let row = world.runtime.store.read("test.settlement", envelope_id.to_owned(), look).await.expect("read");
    let Some(row) = row else { return };
    let body = Repay {
        settlement_id: row.settlement_id,
        owner_user_id: Some(11),
        owner_guest_scope: None,
        amount_msats: Some(7_000),
        idempotency_key: format!("k{scope}-{}", world.clock_now().micros()),
    };
    let _ = world.call::<CreditRepay>(&operator(), Nothing {}, Nothing {}, body).await;
}

/// What was paid back to the pool.
async fn repaid(world: &World, envelopes: &BTreeMap<u8, String>) -> i128 {
    let look = async |tx: &mut Tx, id: &String| {
        let Some(row) = table::settlement(tx, id).await? else { return Ok(0) };
        Ok(credit_sums::loan(tx, &row.settlement_id).await?.map_or(0, |loan| loan.repaid.get()))
    };
    let mut sum = 0;
    for id in envelopes.values() {
        sum += i128::from(world.runtime.store.read("test.repaid", id.clone(), look).await.expect("read"));
    }
    sum
}

/// Whoever was left waiting gets an answer, and whatever is over is given back. What was broken off may still be on its
/// way through store and wallet, so this goes on until nothing is held any more.
async fn settle_down(world: &World, purse: &Purse) {
    purse.turn(Mood::Pays);
    for round in 0..100 {
        world.clock.advance_ms(1_200_000);
        yields(200).await;
        world.runtime.payments.resolve_due().await.expect("resolved");
        if round >= 5 {
            crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
            if pool(world).await.1 == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

async fn judge(world: &World, purse: &Purse, envelopes: &BTreeMap<u8, String>) {
    let mut paid = BTreeMap::<String, u32>::new();
    let made = purse.made.lock().expect("payments").clone();
    for request in &made {
        let quote = request.strip_prefix("liqpay:").expect("a request of ours").to_owned();
        let look = async |tx: &mut Tx, id: &String| table::payment(tx, id).await;
        let attempt = world.runtime.store.read("test.attempt", quote, look).await.expect("read");
        *paid.entry(attempt.expect("written before it was asked").envelope_id).or_default() += 1;
    }
    assert!(paid.values().all(|times| *times == 1), "paid more than once: {paid:?}");
    let look = async |tx: &mut Tx, id: &String| table::settlement(tx, id).await;
    for id in envelopes.values() {
        let row = world.runtime.store.read("test.settlement", id.clone(), look).await.expect("read");
        let success = row.is_some_and(|row| row.outcome == oa_contract::wire::credit::Outcome::Success);
        assert_eq!(success, paid.contains_key(id), "the books say what the wallet did");
    }
    let gone = i128::try_from(made.len()).expect("a number") * 21_000;
    let back = repaid(world, envelopes).await;
    assert_eq!(pool(world).await, (i128::from(DEPOSIT) - gone + back, 0));
    adds_up(world).await;
}

fn every_story_ends_well(engine: EngineKind, cases: u32) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads = threads.expect("threads");
    let config = Cases { cases, failure_persistence: None, max_shrink_iters: 40, ..Cases::default() };
    let stories = prop::collection::vec(any_act(), 5..40);
    let played = TestRunner::new(config).run(&stories, |acts| {
        threads.block_on(play(engine, acts));
        Ok(())
    });
    played.expect("every story ends well");
}

#[test]
fn no_story_pays_an_envelope_twice_on_sqlite() {
    every_story_ends_well(EngineKind::Sqlite, 24);
}

#[test]
fn no_story_pays_an_envelope_twice_on_postgres() {
    every_story_ends_well(EngineKind::Postgres, 8);
}

proptest! {
    #[test]
    fn no_text_breaks_what_reads_invoices_and_moments(text in "\\PC{0,64}", digits in "ln[a-z]{2}[0-9]{0,24}[munpx]?1?") {
        for text in [text.as_str(), digits.as_str()] {
            let _ = oa_lightning::bolt11::prefix_amount_msats(text);
            let _ = oa_lightning::bolt11::whole_amount_msats(text);
            let mut intent = serde_json::to_value(declaring("k", 1)).expect("JSON");
            intent["exp"] = json!(text);
            let _ = serde_json::from_value::<DeclareIntent>(intent);
        }
    }

    #[test]
    fn a_context_is_hashed_the_same_however_it_was_written(numbers in prop::collection::vec(any::<i64>(), 0..6), name in "\\PC{0,9}") {
        let whole = json!({"n": numbers, &name: {"z": 1, "a": null}});
        let text = serde_json::to_string(&whole).expect("JSON");
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let doubled = receipts::doubled;
        prop_assert_eq!(
            oa_contract::canonical::canonical_hash(&doubled(&whole)),
            oa_contract::canonical::canonical_hash(&doubled(&doubled(&read)))
        );
    }
}

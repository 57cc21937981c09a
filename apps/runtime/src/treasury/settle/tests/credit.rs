//! A job that a pool pays for through an envelope of an agent's credit, and that pays the pool back (§10.5, §17.2). The
//! wallet is SIMULATED.

use std::sync::Arc;

use oa_contract::{
    Amount, Asset, Clock,
    matrix::{
        CreditEnvelope, CreditExplain, CreditIntent, CreditLoanGet, CreditOffer, CreditSettle,
        PoolsLendingSet,
    },
    wire::{
        credit::{
            AskOffer, Borrower, DeclareIntent, INTENT_REQUEST, IssueEnvelope, LoanStatus, ScopeType,
            SetLending, SettleEnvelope,
        },
        paths::{CreditSettlementPath, OfferPath, PoolPath},
        pools::{Pool, PoolKind, PoolStatus},
        treasury::{CepTerms, JobStatus, SettlementRoute},
    },
};
use oa_ledger::{AccountId, Kind, Leg, Order, TransferId};
use oa_lightning::{Simulated, bolt11::Network, simulated};
use oa_store::tables::{
    credit::{self as table, AgentRow},
    ledger, pools,
};

use super::*;
use crate::{
    credit::{
        legs,
        tests::{Mood, Purse},
    },
    testing::{BEGIN, refused},
};

struct Still;

impl Clock for Still {
    fn now(&self) -> oa_contract::Timestamp {
        BEGIN
    }
}

async fn world(engine: EngineKind, lenient_mode: bool) -> World {
    let mut config = if lenient_mode { lenient() } else { strict() };
    config.liquidity.network = Network::Regtest;
    let wallet = Simulated::new("purse", Network::Regtest, Arc::new(Still), msats(1_000_000_000));
    World::paying(engine, config, Some(Arc::new(wallet))).await
}

fn key(letter: &str) -> String {
    letter.repeat(64)
}

fn pool_account() -> AccountId {
    legs::pool_account(&key("b")).expect("an account")
}

async fn deposited(world: &World, units: u64) {
    let order = Order {
        id: TransferId::new("deposit").expect("an id"),
        legs: vec![Leg {
            debit: AccountId::new(Kind::Wallet, Asset::msats(), "purse").expect("an account"),
            credit: pool_account(),
            amount: Amount::new(units).expect("an amount"),
        }],
        hold: None,
        reference: "test".into(),
    };
    let write = async |tx: &mut Tx, order: &Order| ledger::transfer(tx, order, BEGIN).await;
    world.runtime.store.write("test.deposit", (), order, write).await.expect("deposited");
    lends_to(world, Borrower { owner_user_id: Some(11), max_sats: 1_000, ..Borrower::default() }).await;
}

/// What the pool's operator says.
async fn lends_to(world: &World, borrower: Borrower) {
    let opened = async |tx: &mut Tx, (): &()| {
        let pool = Pool {
            pool_id: key("b"),
            pool_kind: PoolKind::Llp,
            operator_id: "operator:one".into(),
            status: PoolStatus::Active,
            config: oa_contract::wire::null(),
            created_at: BEGIN,
        };
        match pools::pool(tx, &pool.pool_id).await? {
            Some(_) => Ok(()),
            None => pools::insert_pool(tx, &pool).await,
        }
    };
    world.runtime.store.write("test.pool", (), (), opened).await.expect("opened");
    let said = SetLending { borrowers: vec![borrower], together_sats: 10_000 };
    let path = PoolPath { pool_id: key("b") };
    world.call::<PoolsLendingSet>(&operator(), path, Nothing {}, said).await.expect("set");
}

async fn pool(world: &World) -> (i128, u64) {
    let read = async |tx: &mut Tx, id: &AccountId| ledger::account(tx, id).await;
    let account = world.runtime.store.read("test.account", pool_account(), read).await.expect("read");
    (account.balances.posted(), account.balances.debits_pending.get())
}

fn invoice(name: &str, units: u64) -> String {
    simulated::invoice(Network::Regtest, name, msats(units), BEGIN, 3_600).expect("an invoice")
}

/// The example of the specification, paid by credit.
fn by_credit(run_id: Uuid, invoice: &str) -> SettleSandboxRun {
    let cep = json!({"agent_id": key("A"), "pool_id": key("b"), "provider_invoice": invoice, "provider_host": "Host.Example"});
    SettleSandboxRun {
        provider_id: key("c"),
        route_policy: serde_json::from_value(json!({"kind": "force_cep"})).expect("a policy"),
        cep: Some(serde_json::from_value(cep).expect("terms")),
        ..example(run_id)
    }
}

#[tokio::test]
async fn a_pool_pays_the_provider_and_is_paid_back_with_its_fee() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = world(engine, false).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let body = || by_credit(run, &invoice("i", 1_000));
        let settled = settle(&world, body()).await.expect("settled");
        assert_eq!(settled.settlement_route, SettlementRoute::CepEnvelope);
        assert_eq!(settled.settlement_status, JobStatus::Released);
        let credit_id = settled.credit_settlement_id.clone().expect("a settlement of credit");
        assert!(credit_id.starts_with("ceps_"));
        assert_eq!(settled.credit_liquidity_receipt_sha256.as_ref().map(String::len), Some(64));
        // 1000 for the provider, 1000 for the way, and one sat of fee: the fee is what the pool has earned.
        assert_eq!(pool(&world).await, (10_001_000, 0));
        let (_, reserved, spent) = account(&world, 11).await;
        assert_eq!((reserved, spent), (0, 3_000));
        let path = CreditSettlementPath { settlement_id: credit_id };
        let loan = world.call::<CreditLoanGet>(&operator(), path, Nothing {}, Nothing {}).await;
        assert_eq!(loan.expect("a loan").1.loan.status, LoanStatus::Repaid);
        let told = events(&world, run).await;
        assert_eq!(
            names(&told),
            [
                "BudgetReserved",
                "VerificationPassed",
                "verification",
                "CepSettlementLinked",
                "payment",
                "PaymentReleased"
            ]
        );
        assert_eq!(told[4].2["payment_proof"]["type"], "cep_envelope");
        assert_eq!(paid(&world, run).await, 1_000);
        world.clock.advance_ms(7_200_000);
        assert_eq!(settle(&world, body()).await.expect("again"), settled);
        assert_eq!(events(&world, run).await.len(), 6);
        everything_adds_up(&world).await;
    }
}

/// So many sats, for the job of the example.
async fn declared(world: &World, max_sats: u64) -> String {
    let body = DeclareIntent {
        schema: INTENT_REQUEST.into(),
        idempotency_key: format!("{max_sats}"),
        agent_id: key("A"),
        scope_type: ScopeType::Nip90,
        scope_id: job_hash(&request()).expect("a hash"),
        max_sats,
        exp: BEGIN.plus_seconds(1_800),
        policy_context: None,
        agent_signature: None,
    };
    let reply = world.call::<CreditIntent>(&operator(), Nothing {}, Nothing {}, body).await;
    reply.expect("declared").1.intent.intent_id
}

#[tokio::test]
async fn what_an_agent_has_declared_bounds_what_a_settlement_is_offered() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = world(engine, false).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let within = |intent_id: &str| {
            let mut body = by_credit(run, &invoice("i", 1_000));
            let cep = body.cep.as_mut().expect("terms");
            (cep.intent_id, cep.offer_ttl_seconds) = (Some(intent_id.into()), Some(600));
            body
        };
        let settled = settle(&world, within(&declared(&world, 2).await)).await.expect("settled");
        let path = OfferPath { offer_id: settled.credit_offer_id.expect("an offer") };
        let explained = world.call::<CreditExplain>(&operator(), path, Nothing {}, Nothing {}).await;
        let audit = explained.expect("explained").1.audit;
        assert_eq!(audit["intentId"], declared(&world, 2).await, "the offer is for what was declared");
        let run = begin(&world).await;
        let body = SettleSandboxRun { run_id: run, ..within(&declared(&world, 1).await) };
        let body = SettleSandboxRun {
            cep: body.cep.map(|cep| CepTerms { provider_invoice: invoice("j", 1_000), ..cep }),
            ..body
        };
        assert_eq!(refused(settle(&world, body).await).message, "intent mismatch: max_sats exceeds intent");
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn where_the_pool_cannot_pay_the_reservation_stands_and_the_same_request_goes_on() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = world(engine, false).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        let run = begin(&world).await;
        let body = || by_credit(run, &invoice("i", 1_000));
        let refusal = refused(settle(&world, body()).await);
        assert_eq!(refusal.reason_code, Some("pool_does_not_lend"));
        lends_to(&world, Borrower { owner_user_id: Some(11), max_sats: 1_000, ..Borrower::default() }).await;
        assert_eq!(refused(settle(&world, body()).await).message, "pool capacity exceeded");
        assert_eq!(account(&world, 11).await.1, 1_000, "the reservation stands");
        deposited(&world, 10_000_000).await;
        assert_eq!(settle(&world, body()).await.expect("settled").settlement_status, JobStatus::Released);
        assert_eq!(pool(&world).await, (10_001_000, 0));
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn what_was_not_verified_costs_no_agent_its_name() {
    for (lenient_mode, enveloped) in [(false, false), (true, true)] {
        let world = world(EngineKind::Sqlite, lenient_mode).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let mut body = by_credit(run, &invoice("i", 1_000));
        body.response.runs[0].cmd = "another".into();
        let settled = settle(&world, body).await.expect("settled");
        assert_eq!(settled.settlement_route, SettlementRoute::CepEnvelope);
        assert_eq!(settled.settlement_status, JobStatus::Withheld);
        assert_eq!(settled.credit_envelope_id.is_some(), enveloped);
        assert_eq!(settled.credit_liquidity_receipt_sha256, None);
        assert_eq!((pool(&world).await, account(&world, 11).await.1), ((10_000_000, 0), 0));
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn parallel_settlements_through_credit_pay_the_provider_once() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = world(engine, false).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let body = || by_credit(run, &invoice("i", 1_000));
        futures_util::future::join_all((0..8).map(|_| settle(&world, body()))).await;
        settle(&world, body()).await.expect("settled");
        assert_eq!(pool(&world).await, (10_001_000, 0));
        assert_eq!(account(&world, 11).await.2, 3_000);
        everything_adds_up(&world).await;
    }
}

/// A wallet whose mood changes.
async fn moody(engine: EngineKind, mood: Mood) -> (World, Arc<Purse>) {
    let mut config = strict();
    config.liquidity.network = Network::Regtest;
    let purse = Purse::new(mood);
    (World::paying(engine, config, Some(purse.clone())).await, purse)
}

async fn swept(world: &World) {
    crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
}

#[tokio::test]
async fn a_pool_that_has_paid_is_paid_back_though_whoever_asked_is_gone() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let (world, purse) = moody(engine, Mood::Silent).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let body = || by_credit(run, &invoice("i", 1_000));
        let refusal = refused(settle(&world, body()).await);
        assert_eq!(refusal.reason_code, Some("payment_pending"));
        // Hours later, after a restart, nobody has asked again; and nobody gives back what may be owed.
        world.clock.advance_ms(7_200_000);
        let world = world.restart().await;
        assert_eq!(reconcile(&world, 0).await.expired_reservations, 0);
        crate::background::holds::sweep_once(&world.runtime).await.expect("swept");
        assert_eq!(account(&world, 11).await.1, 1_000, "the payer's money is where it was");
        swept(&world).await;
        assert_eq!(account(&world, 11).await.1, 1_000, "the payment is still under way");
        world.runtime.payments.resolve_due().await.expect("resolved");
        swept(&world).await;
        assert_eq!(account(&world, 11).await, (10_000_000_000, 0, 3_000));
        assert_eq!((pool(&world).await, purse.asked()), ((10_001_000, 0), 1));
        assert_eq!(paid(&world, run).await, 1_000);
        let settled = settle(&world, body()).await.expect("as it was settled");
        assert_eq!(settled.settlement_status, JobStatus::Released);
        assert_eq!((events(&world, run).await.len(), purse.asked()), (6, 1));
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn what_was_decided_stays_decided_while_the_pool_pays() {
    let (world, purse) = moody(EngineKind::Sqlite, Mood::Silent).await;
    let _route = provider(&world, "worker:a", &key("c"), 11).await;
    deposited(&world, 10_000_000).await;
    let run = begin(&world).await;
    let body = || by_credit(run, &invoice("i", 1_000));
    assert_eq!(refused(settle(&world, body()).await).reason_code, Some("payment_pending"));
    world.clock.advance_ms(60_000);
    // The worker is another one's now, and a pool that paid would be refused today.
    provider(&world, "worker:a", "provider-b", 11).await;
    lends_to(&world, Borrower { owner_user_id: Some(12), max_sats: 1, ..Borrower::default() }).await;
    world.runtime.payments.resolve_due().await.expect("resolved");
    let settled = settle(&world, body()).await.expect("settled");
    assert_eq!((settled.settlement_status, purse.asked()), (JobStatus::Released, 1));
    assert_eq!((pool(&world).await, account(&world, 11).await.2), ((10_001_000, 0), 3_000));
    everything_adds_up(&world).await;
}

#[tokio::test]
async fn a_settlement_that_is_broken_off_anywhere_pays_once_and_charges_once() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        for polls in [0, 1, 3, 10, 40, 100, 300, 1_000, 10_000] {
            let (world, purse) = moody(engine, Mood::Pays).await;
            let _route = provider(&world, "worker:a", &key("c"), 11).await;
            deposited(&world, 10_000_000).await;
            let run = begin(&world).await;
            let body = || by_credit(run, &invoice("i", 1_000));
            let asked = Box::pin(settle(&world, body()));
            let yields = Box::pin(async {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
            });
            drop(futures_util::future::select(asked, yields).await);
            let world = world.restart().await;
            for _ in 0..6 {
                world.clock.advance_ms(1_200_000);
                world.runtime.payments.resolve_due().await.expect("resolved");
                reconcile(&world, 0).await;
                swept(&world).await;
            }
            assert!(purse.asked() <= 1);
            let (_, reserved, spent) = account(&world, 11).await;
            match purse.asked() {
                0 => assert_eq!((reserved, spent, pool(&world).await), (0, 0, (10_000_000, 0))),
                _ => assert_eq!((reserved, spent, pool(&world).await), (0, 3_000, (10_001_000, 0))),
            }
            everything_adds_up(&world).await;
        }
    }
}

/// Everything that a job writes to that a pool pays for.
const WRITTEN: [&str; 17] = [
    "compute_settlements",
    "compute_paying",
    "credit_agents",
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
    "ledger_transfers",
    "ledger_legs",
    "ledger_entries",
    "run_events",
];

#[tokio::test]
async fn a_settlement_whose_store_fails_anywhere_pays_once_and_charges_once() {
    for (engine, table) in [EngineKind::Sqlite, EngineKind::Postgres]
        .into_iter()
        .flat_map(|engine| WRITTEN.into_iter().map(move |table| (engine, table)))
    {
        let (world, purse) = moody(engine, Mood::Pays).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let body = || by_credit(run, &invoice("i", 1_000));
        world.break_writes_to(Some(table)).await;
        assert!(settle(&world, body()).await.is_err(), "{table}");
        everything_adds_up(&world).await;
        world.break_writes_to(None).await;
        for _ in 0..3 {
            world.clock.advance_ms(10_000);
            world.runtime.payments.resolve_due().await.expect("resolved");
            swept(&world).await;
            everything_adds_up(&world).await;
        }
        assert_eq!(settle(&world, body()).await.expect(table).settlement_status, JobStatus::Released);
        assert_eq!(purse.made(), 1, "{table}");
        let (_, reserved, spent) = account(&world, 11).await;
        assert_eq!((reserved, spent, pool(&world).await), (0, 3_000, (10_001_000, 0)), "{table}");
    }
}

#[tokio::test]
async fn where_nothing_was_paid_the_payer_has_its_money_again_and_may_settle_anew() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let (world, purse) = moody(engine, Mood::Refuses).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let late =
            || simulated::invoice(Network::Regtest, "i", msats(1_000), BEGIN, 86_400).expect("an invoice");
        let body = || by_credit(run, &late());
        assert!(refused(settle(&world, body()).await).message.starts_with("liquidity pay failed: failed"));
        world.clock.advance_ms(3_600_000);
        swept(&world).await;
        assert_eq!(account(&world, 11).await.1, 1_000, "it may still be paid");
        world.clock.advance_ms(61_000);
        swept(&world).await;
        assert_eq!((account(&world, 11).await.1, pool(&world).await), (0, (10_000_000, 0)));
        assert_eq!(
            summary(&world, 11).await.recent_jobs[0].withheld_reason.as_deref(),
            Some("reservation_expired")
        );
        purse.turn(Mood::Pays);
        let settled = settle(&world, body()).await.expect("settled");
        assert_eq!((settled.settlement_status, purse.asked()), (JobStatus::Released, 2));
        assert_eq!((account(&world, 11).await.2, pool(&world).await), (3_000, (10_001_000, 0)));
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn what_a_payer_has_reserved_is_free_again_though_the_agent_has_gone_to_another_owner() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let (world, purse) = moody(engine, Mood::Refuses).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let late =
            || simulated::invoice(Network::Regtest, "i", msats(1_000), BEGIN, 86_400).expect("an invoice");
        let body = || by_credit(run, &late());
        assert!(refused(settle(&world, body()).await).message.starts_with("liquidity pay failed: failed"));
        let owned = async |tx: &mut Tx, row: &AgentRow| table::put_agent(tx, row).await;
        let row = AgentRow { agent_id: key("a"), owner_key: "user:12".into(), claimed_at: BEGIN };
        world.runtime.store.write("test.agent", (), row, owned).await.expect("gone");
        assert!(refused(settle(&world, body()).await).message.starts_with("liquidity pay failed: failed"));
        assert_eq!((account(&world, 11).await.1, purse.asked()), (1_000, 2));
        world.clock.advance_ms(3_662_000);
        swept(&world).await;
        assert_eq!((account(&world, 11).await.1, pool(&world).await), (0, (10_000_000, 0)));
        everything_adds_up(&world).await;
    }
}

#[tokio::test]
async fn an_envelope_pays_for_one_settlement() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let world = world(engine, false).await;
        let row = |settlement_id: &str| oa_store::tables::treasury_paying::PayingRow {
            settlement_id: settlement_id.into(),
            envelope_id: "cepe_1".into(),
            decided: "{}".into(),
            over_at: BEGIN,
            begun_at: BEGIN,
        };
        use oa_store::tables::treasury_paying as paying;
        let put = async |tx: &mut Tx, row: &paying::PayingRow| paying::insert(tx, row).await;
        world.runtime.store.write("test.paying", (), row("stl_1"), put).await.expect("kept");
        assert!(world.runtime.store.write("test.paying", (), row("stl_2"), put).await.is_err());
        let look = async |tx: &mut Tx, over: &oa_contract::Timestamp| paying::after(tx, "", *over, 9).await;
        let due =
            async |seconds| world.runtime.store.read("test.due", BEGIN.plus_seconds(seconds), look).await;
        assert_eq!(due(0).await.expect("read"), Vec::<String>::new(), "there is still time");
        assert_eq!(due(1).await.expect("read"), ["stl_1"]);
        let get = async |tx: &mut Tx, id: &String| paying::get(tx, id).await;
        let known = world.runtime.store.read("test.kept", "stl_1".to_owned(), get).await;
        assert_eq!(known.expect("its seal holds"), Some(row("stl_1")));
    }
}

#[tokio::test]
async fn a_job_that_was_paid_directly_backs_no_envelope() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let (world, purse) = moody(engine, Mood::Pays).await;
        let _route = provider(&world, "worker:a", &key("c"), 11).await;
        deposited(&world, 10_000_000).await;
        let run = begin(&world).await;
        let settled = settle(&world, SettleSandboxRun { provider_id: key("c"), ..example(run) })
            .await
            .expect("settled");
        assert_eq!(settled.settlement_route, SettlementRoute::DirectLiquidity);
        let owned = async |tx: &mut Tx, row: &AgentRow| table::put_agent(tx, row).await;
        let row = AgentRow { agent_id: key("a"), owner_key: "user:11".into(), claimed_at: BEGIN };
        world.runtime.store.write("test.agent", (), row, owned).await.expect("owned");
        let offer = AskOffer {
            schema: "openagents.credit.offer_request.v1".into(),
            agent_id: key("a"),
            pool_id: key("b"),
            intent_id: None,
            scope_type: ScopeType::Nip90,
            scope_id: settled.job_hash.clone(),
            max_sats: 100,
            fee_bps: 1,
            requires_verifier: true,
            exp: BEGIN.plus_seconds(600),
        };
        let offer = world.call::<CreditOffer>(&operator(), Nothing {}, Nothing {}, offer).await;
        let issue = IssueEnvelope {
            schema: "openagents.credit.envelope_request.v1".into(),
            offer_id: offer.expect("offered").1.offer.offer_id,
            provider_id: key("c"),
        };
        let issued = world.call::<CreditEnvelope>(&operator(), Nothing {}, Nothing {}, issue).await;
        let body = SettleEnvelope {
            schema: "openagents.credit.settle_request.v1".into(),
            envelope_id: issued.expect("issued").1.envelope.envelope_id,
            verification_passed: true,
            verification_receipt_sha256: settled.verification_receipt_sha256.clone(),
            provider_invoice: invoice("i", 1_000),
            provider_host: "host".into(),
            max_fee_msats: 1_000,
            policy_context: None,
        };
        let again = world.call::<CreditSettle>(&operator(), Nothing {}, Nothing {}, body).await;
        let refusal = refused(again);
        assert_eq!(refusal.message, "verification_receipt_sha256 has been paid on already");
        assert_eq!((purse.asked(), pool(&world).await.0), (0, 10_000_000));
    }
}

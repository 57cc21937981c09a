//! What credit does to agents, pools and providers, on both engines: the acceptance list of credit-fx §11, and what must
//! not fail beyond it. The wallet is SIMULATED.

mod bounds;
mod chaos;
mod money;
mod specified;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use oa_contract::{
    Amount, Asset, Clock, Msats, Nothing, Stop, Timestamp,
    matrix::{
        CreditEnvelope, CreditExposure, CreditHealth as HealthRow, CreditIntent, CreditLoanGet, CreditOffer,
        CreditSettle,
    },
    wire::{
        credit::{
            AskOffer, Borrower, CreditHealth, CreditSettlement, DeclareIntent, EnvelopeReply, Exposure,
            IntentReply, IssueEnvelope, Loan, Offer, ScopeType, SetLending, SettleEnvelope,
        },
        paths::{AgentPath, CreditSettlementPath},
    },
};
use oa_ledger::{AccountId, Kind, Leg, Order, TransferId};
use oa_lightning::{
    About, Balances, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, Paid, PayOrder, PaymentRef,
    PaymentState, Simulated, Wallet, WalletError, bolt11::Network, simulated,
};
use oa_store::{
    EngineKind, Tx,
    tables::{credit as table, ledger, ledger_audit},
};
use serde_json::{Value, json};

use super::{evidence, legs};
use crate::{
    Config, TrustMode,
    testing::{self, BEGIN, World, operator},
};

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        BEGIN
    }
}

/// What the wallet does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Pays,
    Refuses,
    /// It pays, and does not say so.
    Silent,
    /// It says nothing, and never pays.
    Lost,
}

/// A SIMULATED wallet that counts how often it is asked to pay.
pub(crate) struct Purse {
    inner: Simulated,
    mood: Mutex<Mood>,
    asked: AtomicU32,
    /// What was really paid.
    made: Mutex<Vec<String>>,
}

impl Purse {
    pub(crate) fn new(mood: Mood) -> Arc<Self> {
        let balance = Msats::new(1_000_000_000).expect("msats");
        let inner = Simulated::new("purse", Network::Regtest, Arc::new(Still), balance);
        Arc::new(Purse { inner, mood: Mutex::new(mood), asked: AtomicU32::new(0), made: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many payments it has made.
    pub(crate) fn made(&self) -> usize {
        self.made.lock().expect("payments").len()
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.lock().expect("a mood") = mood;
    }
}

impl Wallet for Purse {
    fn about(&self) -> About {
        About { face: "simulated", wallet_id: "purse".into(), simulated: true, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().expect("a mood");
        Box::pin(async move {
            tokio::task::yield_now().await;
            if mood == Mood::Refuses {
                return Err(WalletError::not_done("no_route", "there is no way to the provider"));
            }
            if mood == Mood::Lost {
                return Err(WalletError::unknown("timeout", "nothing was said"));
            }
            let paid = match order.payment_hash {
                Some(_) => {
                    let paid = self.inner.pay(order).await?;
                    let mut made = self.made.lock().expect("payments");
                    if !made.contains(&order.request_id) {
                        made.push(order.request_id.clone());
                    }
                    paid
                }
                None => Paid {
                    payment_id: Some("p".into()),
                    preimage: None,
                    amount: Some(order.amount),
                    fee: Some(order.max_fee.min(Msats::new(1_000).expect("msats"))),
                    paid_at_ms: Some(7),
                    receipt_sha256: Some("c".into()),
                    preimage_sha256: None,
                    evidence: None,
                },
            };
            match mood {
                Mood::Silent => Err(WalletError::unknown("timeout", "nothing was said")),
                _ => Ok(paid),
            }
        })
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        self.inner.payment(payment)
    }

    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        self.inner.create_invoice(order)
    }

    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        self.inner.invoice(invoice)
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        self.inner.balances()
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        self.inner.status()
    }
}

fn strict() -> Config {
    let mut config = testing::config();
    config.liquidity.network = Network::Regtest;
    config
}

fn lenient() -> Config {
    Config { trust_mode: TrustMode::Lenient, ..strict() }
}

async fn on_each(config: impl Fn() -> Config, mood: Mood, story: impl AsyncFn(World, Arc<Purse>)) {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let purse = Purse::new(mood);
        story(World::paying(engine, config(), Some(purse.clone())).await, purse).await;
    }
}

fn key(letter: &str) -> String {
    letter.repeat(64)
}

fn declaring(idempotency_key: &str, max_sats: u64) -> DeclareIntent {
    DeclareIntent {
        schema: "openagents.credit.intent_request.v1".into(),
        idempotency_key: idempotency_key.into(),
        agent_id: key("A"),
        scope_type: ScopeType::Nip90,
        scope_id: "job-7".into(),
        max_sats,
        exp: BEGIN.plus_seconds(1_800),
        policy_context: Some(json!({"attempt": 1})),
        agent_signature: None,
    }
}

/// An offer for a scope, so that several are several.
fn asking(scope: &str, max_sats: u64) -> AskOffer {
    AskOffer {
        schema: "openagents.credit.offer_request.v1".into(),
        agent_id: key("A"),
        pool_id: key("b"),
        intent_id: None,
        scope_type: ScopeType::Nip90,
        scope_id: scope.into(),
        max_sats,
        fee_bps: 100,
        requires_verifier: true,
        exp: BEGIN.plus_seconds(1_800),
    }
}

async fn intent(world: &World, body: DeclareIntent) -> Result<IntentReply, Stop> {
    world.call::<CreditIntent>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

async fn offer(world: &World, body: AskOffer) -> Result<Offer, Stop> {
    world.call::<CreditOffer>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply.offer)
}

async fn envelope(world: &World, offer_id: &str, provider: &str) -> Result<EnvelopeReply, Stop> {
    let body = IssueEnvelope {
        schema: "openagents.credit.envelope_request.v1".into(),
        offer_id: offer_id.into(),
        provider_id: key(provider),
    };
    world.call::<CreditEnvelope>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

/// An envelope for a scope, and its id.
async fn enveloped(world: &World, scope: &str, max_sats: u64) -> String {
    let offer = offer(world, asking(scope, max_sats)).await.expect("offered");
    envelope(world, &offer.offer_id, "c").await.expect("issued").envelope.envelope_id
}

fn settlement(envelope_id: &str, invoice: &str) -> SettleEnvelope {
    SettleEnvelope {
        schema: "openagents.credit.settle_request.v1".into(),
        envelope_id: envelope_id.into(),
        verification_passed: true,
        verification_receipt_sha256: "sha256:verified".into(),
        provider_invoice: invoice.into(),
        provider_host: "provider.example".into(),
        max_fee_msats: 10_000,
        policy_context: None,
    }
}

fn failing(envelope_id: &str) -> SettleEnvelope {
    SettleEnvelope { verification_passed: false, provider_host: String::new(), ..settlement(envelope_id, "") }
}

async fn settle(world: &World, body: SettleEnvelope) -> Result<CreditSettlement, Stop> {
    world.call::<CreditSettle>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

async fn health(world: &World) -> CreditHealth {
    world.call::<HealthRow>(&operator(), Nothing {}, Nothing {}, Nothing {}).await.expect("health").1
}

async fn exposure(world: &World) -> Exposure {
    let path = AgentPath { agent_id: key("A") };
    world.call::<CreditExposure>(&operator(), path, Nothing {}, Nothing {}).await.expect("an exposure").1
}

async fn loan(world: &World, settlement_id: &str) -> Loan {
    let path = CreditSettlementPath { settlement_id: settlement_id.into() };
    world.call::<CreditLoanGet>(&operator(), path, Nothing {}, Nothing {}).await.expect("a loan").1.loan
}

/// An invoice of the simulated network.
fn invoice(name: &str, msats: u64) -> String {
    let amount = Msats::new(msats).expect("msats");
    simulated::invoice(Network::Regtest, name, amount, BEGIN, 3_600).expect("an invoice")
}

/// Somebody has deposited so much into the pool's credit partition, which lends to the agent of the tests.
async fn deposited(world: &World, msats: u64) {
    let wallet = AccountId::new(Kind::Wallet, Asset::msats(), "purse").expect("an account");
    let order = Order {
        id: TransferId::new(format!("deposit:{msats}")).expect("an id"),
        legs: vec![Leg {
            debit: wallet,
            credit: legs::pool_account(&key("b")).expect("an account"),
            amount: Amount::new(msats).expect("an amount"),
        }],
        hold: None,
        reference: "test".into(),
    };
    let write =
        async |tx: &mut Tx, (order, now): &(Order, Timestamp)| ledger::transfer(tx, order, *now).await;
    world.runtime.store.write("test.deposit", (), (order, BEGIN), write).await.expect("deposited");
    lending(world, vec![agent_may("a", 1_000_000)], 1_000_000).await;
}

/// What the pool's credit partition holds, and what of it is promised.
async fn pool(world: &World) -> (i128, u64) {
    let id = legs::pool_account(&key("b")).expect("an account");
    let read = async |tx: &mut Tx, id: &AccountId| ledger::account(tx, id).await;
    let account = world.runtime.store.read("test.account", id, read).await.expect("read");
    (account.balances.posted(), account.balances.debits_pending.get())
}

/// A verification of ours that this job has passed, or not, for the agent of the tests and the provider `c`.
async fn verified(world: &World, name: &str, receipt: &str, job: &str, price: u64, passed: bool) {
    let look = async |tx: &mut Tx, agent: &String| super::borrower(tx, agent).await;
    let owner = world.runtime.store.read("test.borrower", key("a"), look).await.expect("read");
    issued(world, evidence_of(name, receipt, job, &owner, price, passed)).await;
}

/// The agent of the tests is this user's.
async fn owned(world: &World, user: u64) {
    let write = async |tx: &mut Tx, row: &table::AgentRow| table::put_agent(tx, row).await;
    let row = table::AgentRow { agent_id: key("a"), owner_key: format!("user:{user}"), claimed_at: BEGIN };
    world.runtime.store.write("test.agent", (), row, write).await.expect("written");
}

fn evidence_of(
    name: &str,
    receipt: &str,
    job: &str,
    owner: &str,
    price: u64,
    passed: bool,
) -> evidence::Issued {
    evidence::Issued {
        evidence_id: name.into(),
        receipt_sha256: receipt.into(),
        job_hash: job.into(),
        owner_key: owner.into(),
        provider_id: key("c"),
        price: Msats::new(price).expect("msats"),
        payee: None,
        passed,
    }
}

async fn issued(world: &World, issued: evidence::Issued) {
    let write = async |tx: &mut Tx, issued: &evidence::Issued| evidence::issued(tx, issued, BEGIN).await;
    world.runtime.store.write("test.evidence", (), issued, write).await.expect("written");
}

/// The pool lends to these, as its operator has said.
async fn lending(world: &World, borrowers: Vec<Borrower>, together_sats: u64) {
    let write = async |tx: &mut Tx, said: &SetLending| {
        let lending = serde_json::to_string(said).expect("JSON");
        let row = table::LendingRow { pool_id: key("b"), lending, changed_at: BEGIN };
        table::put_lending(tx, &row).await
    };
    let said = SetLending { borrowers, together_sats };
    world.runtime.store.write("test.lending", (), said, write).await.expect("written");
}

fn agent_may(letter: &str, max_sats: u64) -> Borrower {
    Borrower { agent_id: Some(key(letter)), max_sats, ..Borrower::default() }
}

async fn adds_up(world: &World) {
    let look =
        async |tx: &mut Tx, (): &()| ledger_audit::look(tx, &ledger_audit::Cursor::default(), 100_000).await;
    let looked = world.runtime.store.read("test.audit", (), look).await.expect("looked");
    assert_eq!(looked.findings, []);
}

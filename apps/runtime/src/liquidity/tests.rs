//! The golden values of the specification, and what paying comes to in every case.

mod resolving;
mod silence;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use oa_contract::{
    Clock, Msats, Nothing, Timestamp,
    canonical::canonical_hash,
    matrix::{LiquidityPay, LiquidityQuotePay, LiquidityStatus},
    signer::Signer,
    wire::liquidity::{PaidStatus, Pay, PayQuote, Payment, QuotePay},
};
use oa_lightning::{
    About, Balances, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, Paid, PayOrder, PaymentRef,
    PaymentState, Preimage, Promises, Simulated, Trouble, Wallet, WalletError, bolt11::Network, simulated,
};
use oa_store::{
    EngineKind, Tx,
    tables::{
        ledger,
        liquidity::{PaymentRow, PaymentStatus, QuoteRow},
    },
};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};

use super::receipt::receipt;
use crate::{
    TrustMode,
    testing::{BEGIN, World, bound_to, config, operator, refused},
};

const INVOICE_HASH: &str = "3faa6c5786a2d961801486625507630d05d5a0f2555d2d84bc1a6a2c7b2bd9b7";
const POLICY_HASH: &str = "50ea5d3a292b32eeac6f1dc1e210b81643d9b0e50685deb41fea41cc70385b41";
const QUOTE_ID: &str = "liq_quote_01976f3a-52c1-7b0e-9d7e-4a1f0c3b2d10";

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("msats")
}

fn moment(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a moment")
}

fn golden_quote() -> QuoteRow {
    QuoteRow {
        quote_id: QUOTE_ID.into(),
        principal: "operator".into(),
        idempotency_key: "run-77:pay-3".into(),
        fingerprint: String::new(),
        invoice: "lnbc420n1test".into(),
        invoice_hash: INVOICE_HASH.into(),
        payment_hash: None,
        payee: None,
        host: "sats4ai.com".into(),
        quoted: msats(42_000),
        max_amount: msats(100_000),
        max_fee: msats(10_000),
        urgency: Some("normal".into()),
        policy_context: RawValue::from_string("{\"purpose\":\"test\"}".into()).expect("JSON"),
        policy_context_sha256: POLICY_HASH.into(),
        payer: "suspense/msats/operator".into(),
        valid_until: moment("2026-02-25T12:01:00.000250Z"),
        created_at: moment("2026-02-25T12:00:00.000250Z"),
    }
}

fn golden_payment() -> PaymentRow {
    let at = moment("2026-02-25T12:00:01.250417Z");
    PaymentRow {
        payment_id: QUOTE_ID.into(),
        lane: "quote".into(),
        fingerprint: String::new(),
        request_id: format!("liqpay:{QUOTE_ID}"),
        wallet_id: "lightning".into(),
        invoice: "lnbc420n1test".into(),
        payment_hash: None,
        host: "sats4ai.com".into(),
        amount: msats(42_000),
        max_fee: msats(10_000),
        payer: None,
        hold_id: None,
        run_id: None,
        trajectory_hash: None,
        status: PaymentStatus::Succeeded,
        asks: 1,
        next_ask_at: None,
        not_after: at,
        started_at: at,
        completed_at: Some(at),
        latency_ms: Some(1),
        wallet_response: None,
        wallet_receipt_sha256: Some(
            "add40c73db84286c113807896e94d2115a491ed48cfddb184ff2eb3a4e7ebc29".into(),
        ),
        preimage_sha256: Some("b5b3bd9eb83ff98cd3f5ebcd16e5ed2d9c78627c4610c874476b45075bcfe2c9".into()),
        paid_at_ms: Some(1_772_020_801_234),
        settled: None,
        fee: None,
        error_code: None,
        error_message: None,
        updated_at: at,
        wallet_memory: None,
    }
}

#[test]
fn the_golden_payment_has_the_golden_receipt() {
    let key =
        oa_contract::canonical::hex(&Sha256::digest("openagents:vignette:vignette-liquidity-pool-mvp0"));
    let signer = Signer::from_secret(&key).expect("a key");
    assert_eq!(signer.public_key_hex(), "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c");
    let receipt = receipt(&golden_quote(), &golden_payment(), Some(&signer)).expect("a receipt");
    assert_eq!(
        receipt.canonical_json_sha256,
        "13d0bd0f1f42a591b839efeb682158973c1aa38c69eb540794e10a9d9544ed9e"
    );
    assert_eq!(receipt.receipt_id, "lipr_13d0bd0f1f42a591b839efeb");
    assert_eq!(receipt.max_amount_forwarded_msats, 52_000);
    let signature = receipt.signature.expect("a signature");
    assert!(signature.proves(&receipt.canonical_json_sha256));
    assert_eq!(
        signature.signature_hex,
        "f7628a5086900dbe42f34c3d26c20d5fcd0044b6697192e2bfe1bdf4b5c81e3e9ad8cc81097a6a258b5d5e3fd54f1e5e74e77151a13470c08c7ff632e75029cd"
    );
}

#[test]
fn the_golden_fingerprints_are_those_of_the_specification() {
    assert_eq!(canonical_hash(&json!({"purpose": "test"})), POLICY_HASH);
    assert_eq!(
        canonical_hash(&Value::Null),
        "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
    );
    assert_eq!(
        canonical_hash(&json!({})),
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    let pay = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": QUOTE_ID, "run_id": null, "trajectory_hash": null});
    assert_eq!(canonical_hash(&pay), "dc86f23384811e0fd3911bb3e457a79718aa87694cffab3d0e287ab9514c26ea");
}

type Says = dyn Fn(&PayOrder) -> Result<Paid, WalletError> + Send + Sync;
type Knows = dyn Fn(&PaymentRef) -> Result<PaymentState, WalletError> + Send + Sync;

/// A wallet that says what it is told to, and counts how often it is asked.
struct Puppet {
    says: Box<Says>,
    knows: Box<Knows>,
    asked: AtomicU32,
    /// Whose memory it is, and whether it answers for what it has not heard of.
    promises: Mutex<Promises>,
}

impl Puppet {
    fn promise(&self, memory: &str, honours_deadlines: bool) {
        let promises = Promises { memory: memory.into(), honours_deadlines };
        *self.promises.lock().expect("no panic") = promises;
    }

    fn new(says: impl Fn(&PayOrder) -> Result<Paid, WalletError> + Send + Sync + 'static) -> Arc<Self> {
        let knows = |_: &PaymentRef| Err(WalletError::not_done("cannot_tell", "no"));
        let promises = Mutex::new(Promises { memory: "w".into(), honours_deadlines: true });
        Arc::new(Puppet { says: Box::new(says), knows: Box::new(knows), asked: AtomicU32::new(0), promises })
    }
}

impl Wallet for Puppet {
    fn about(&self) -> About {
        About { face: "puppet", wallet_id: "w".into(), simulated: true, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            (self.says)(order)
        })
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        Box::pin(async move { (self.knows)(payment) })
    }

    fn create_invoice<'a>(&'a self, _: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(async { Err(WalletError::not_done("unsupported", "no")) })
    }

    fn invoice<'a>(&'a self, _: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(async { Ok(InvoiceState::NeverHeardOf) })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async { Ok(Balances::default()) })
    }

    fn promises<'a>(&'a self) -> Later<'a, Result<Promises, WalletError>> {
        Box::pin(async { Ok(self.promises.lock().expect("no panic").clone()) })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async { Ok(json!({"ok": true, "status": {"balanceSats": 7}})) })
    }
}

fn paid(amount: u64, fee: u64) -> Paid {
    Paid {
        payment_id: Some("p".into()),
        preimage: Some(Preimage([0xab; 32])),
        amount: Some(msats(amount)),
        fee: Some(msats(fee)),
        paid_at_ms: Some(7),
        receipt_sha256: Some("c".into()),
        preimage_sha256: None,
        evidence: Some(json!({"ok": true, "result": {}})),
    }
}

async fn lenient(engine: EngineKind, wallet: Option<Arc<dyn Wallet>>) -> World {
    let config = crate::Config { trust_mode: TrustMode::Lenient, ..config() };
    World::paying(engine, config, wallet).await
}

fn quote(key: &str) -> QuotePay {
    QuotePay {
        schema: "openagents.liquidity.quote_pay_request.v1".into(),
        idempotency_key: key.into(),
        invoice: "lnbc420n1test".into(),
        host: "Sats4AI.com".into(),
        max_amount_msats: msats(100_000),
        max_fee_msats: msats(10_000),
        urgency: Some("normal".into()),
        policy_context: json!({"purpose": "test"}),
        owner_user_id: None,
        owner_guest_scope: None,
    }
}

fn pay(quote_id: &str) -> Pay {
    Pay {
        schema: "openagents.liquidity.pay_request.v1".into(),
        quote_id: quote_id.into(),
        run_id: None,
        trajectory_hash: None,
    }
}

async fn quoted(world: &World, body: QuotePay) -> Result<PayQuote, oa_contract::Stop> {
    world.call::<LiquidityQuotePay>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, quote)| quote)
}

async fn payed(world: &World, body: Pay) -> Result<Payment, oa_contract::Stop> {
    world.call::<LiquidityPay>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, paid)| paid)
}

fn both() -> [EngineKind; 2] {
    [EngineKind::Sqlite, EngineKind::Postgres]
}

#[tokio::test]
async fn a_quote_is_answered_the_same_for_its_key_and_other_content_is_a_conflict() {
    for engine in both() {
        let world = lenient(engine, None).await;
        let first = quoted(&world, quote("k")).await.expect("a quote");
        assert!(first.quote_id.starts_with("liq_quote_"));
        assert_eq!((first.invoice_hash.as_str(), first.host.as_str()), (INVOICE_HASH, "sats4ai.com"));
        assert_eq!((first.quoted_amount_msats, first.policy_context_sha256.as_str()), (42_000, POLICY_HASH));
        let key = first.quote_id.clone();
        let read = async |tx: &mut Tx, id: &String| oa_store::tables::liquidity::quote(tx, id).await;
        let row = world.runtime.store.read("quote", key, read).await.expect("read").expect("a quote");
        assert_eq!(row.fingerprint, "e16622c0ec4978f6c3fe9c564ad61e6549c395ee8599ad8518c7229bbbd1c755");
        assert_eq!(first.valid_until, BEGIN.plus_seconds(60));
        world.clock.advance_ms(3_600_000);
        assert_eq!(quoted(&world, quote("k")).await.expect("the same"), first);
        let other = QuotePay { invoice: "lnbc430n1test".into(), ..quote("k") };
        let refusal = refused(quoted(&world, other).await);
        assert_eq!(refusal.message, "idempotency_key reused with different quote parameters");
        assert_eq!(refusal.code.name(), "conflict");
        let mine = world
            .call::<LiquidityQuotePay>(&bound_to(11), Nothing {}, Nothing {}, quote("k"))
            .await
            .expect("my own key");
        assert_ne!(mine.1.quote_id, first.quote_id);
    }
}

#[tokio::test]
async fn what_cannot_be_quoted_says_why_in_the_specified_words() {
    let world = lenient(EngineKind::Sqlite, None).await;
    let blank = || "  ".to_owned();
    let cases = [
        (
            QuotePay { schema: "x".into(), ..quote("k") },
            "schema must be openagents.liquidity.quote_pay_request.v1",
        ),
        (QuotePay { idempotency_key: blank(), ..quote("k") }, "idempotency_key is required"),
        (QuotePay { invoice: blank(), ..quote("k") }, "invoice is required"),
        (QuotePay { host: blank(), ..quote("k") }, "host is required"),
        (
            QuotePay { invoice: "lnbc1amountless".into(), ..quote("k") },
            "invoice must include an amount (amountless invoices not supported)",
        ),
        (
            QuotePay { max_amount_msats: msats(41_999), ..quote("k") },
            "max_amount_msats 41999 is below invoice amount 42000",
        ),
    ];
    for (body, why) in cases {
        let refusal = refused(quoted(&world, body).await);
        assert_eq!((refusal.message.as_str(), refusal.code.name()), (why, "invalid_request"));
    }
    let strict = World::sqlite().await;
    assert!(refused(quoted(&strict, quote("k")).await).message.starts_with("invoice is not valid BOLT11"));
}

#[tokio::test]
async fn a_payment_is_made_once_and_answered_for_ever() {
    for engine in both() {
        let wallet = Puppet::new(|_| Ok(paid(42_000, 5)));
        let world = lenient(engine, Some(wallet.clone())).await;
        let quote = quoted(&world, quote("k")).await.expect("a quote");
        let first = payed(&world, pay(&quote.quote_id)).await.expect("paid");
        assert_eq!(first.status, PaidStatus::Succeeded);
        assert_eq!(first.receipt.max_amount_forwarded_msats, 52_000);
        world.clock.advance_ms(3_600_000);
        let again = payed(&world, pay(&quote.quote_id)).await.expect("paid before");
        assert_eq!(again.receipt, first.receipt);
        assert_eq!(wallet.asked.load(Ordering::SeqCst), 1);
        let other = Pay { run_id: Some("r".into()), ..pay(&quote.quote_id) };
        let refusal = refused(payed(&world, other).await);
        assert_eq!(refusal.message, "quote_id reused with different pay context");
    }
}

#[tokio::test]
async fn what_cannot_be_paid_says_why_in_the_specified_words() {
    let world = lenient(EngineKind::Sqlite, None).await;
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    let wrong = Pay { schema: "x".into(), ..pay(&quote.quote_id) };
    let refusal = refused(payed(&world, wrong).await);
    assert_eq!(refusal.message, "schema must be openagents.liquidity.pay_request.v1");
    assert_eq!(refused(payed(&world, pay(" ")).await).message, "quote_id is required");
    assert_eq!(refused(payed(&world, pay("liq_quote_none")).await).code.name(), "not_found");
    let other = bound_to(7);
    let stranger = world.call::<LiquidityPay>(&other, Nothing {}, Nothing {}, pay(&quote.quote_id));
    assert_eq!(refused(stranger.await.map(|(_, paid)| paid)).code.name(), "not_found");
    world.clock.advance_ms(60_001);
    let refusal = refused(payed(&world, pay(&quote.quote_id)).await);
    assert_eq!((refusal.message.as_str(), refusal.code.name()), ("quote expired", "invalid_request"));
}

#[tokio::test]
async fn without_a_wallet_a_payment_has_failed_and_stays_so() {
    let world = lenient(EngineKind::Sqlite, None).await;
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    let first = payed(&world, pay(&quote.quote_id)).await.expect("an answer");
    assert_eq!(first.status, PaidStatus::Failed);
    assert_eq!(first.error_code.as_deref(), Some("wallet_executor_not_configured"));
    assert_eq!(first.error_message.as_deref(), Some("wallet executor base url missing"));
    assert!(first.payment_proof.is_none());
    let again = payed(&world, pay(&quote.quote_id)).await.expect("an answer");
    let proof: Value = serde_json::from_str(again.payment_proof.expect("a placeholder").get()).expect("JSON");
    assert_eq!(proof["schema"], "openagents.liquidity.payment_proof_placeholder.v1");
    assert_eq!(again.receipt, first.receipt);
    let status = world.call::<LiquidityStatus>(&operator(), Nothing {}, Nothing {}, Nothing {}).await;
    let (_, status) = status.expect("a status");
    assert!(!status.wallet_executor_configured && !status.wallet_executor_reachable);
    assert_eq!(status.error_code.as_deref(), Some("wallet_executor_not_configured"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pays_of_one_quote_ask_the_wallet_once() {
    let wallet = Puppet::new(|_| Ok(paid(42_000, 5)));
    let world = Arc::new(lenient(EngineKind::Sqlite, Some(wallet.clone())).await);
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (world, body) = (world.clone(), pay(&quote.quote_id));
        asking.spawn(async move { payed(&world, body).await });
    }
    while let Some(said) = asking.join_next().await {
        match said.expect("asked") {
            Ok(payment) => assert_eq!(payment.status, PaidStatus::Succeeded),
            ended => {
                let refusal = refused(ended);
                assert_eq!(refusal.message, "payment already in flight for quote_id");
            }
        }
    }
    assert_eq!(wallet.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn silence_is_no_failure_and_the_wallet_tells_later() {
    let silent = |_: &PayOrder| Err(WalletError::unknown("timeout", "nothing was heard"));
    let mut wallet = Puppet::new(silent);
    let puppet = Arc::get_mut(&mut wallet).expect("mine");
    puppet.knows = Box::new(|_| Ok(PaymentState::Succeeded(paid(42_000, 5))));
    let world = lenient(EngineKind::Sqlite, Some(wallet)).await;
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    for _ in 0..2 {
        let refusal = refused(payed(&world, pay(&quote.quote_id)).await);
        assert_eq!(refusal.message, "payment already in flight for quote_id");
        assert_eq!(refusal.code.name(), "conflict");
    }
    world.clock.advance_ms(60_000);
    assert_eq!(world.runtime.payments.resolve_due().await.expect("asked"), 1);
    let told = payed(&world, pay(&quote.quote_id)).await.expect("paid");
    assert_eq!(told.status, PaidStatus::Succeeded);
}

#[tokio::test]
async fn a_definite_failure_is_an_answer_with_a_receipt() {
    let body = json!({"ok": false, "error": {"code": "payment_failed", "message": "no route"}});
    let wallet = Puppet::new(move |_| {
        Err(WalletError::NotDone(
            Trouble::new("payment_failed", "no route").with_evidence(Some(body.clone())),
        ))
    });
    let world = lenient(EngineKind::Sqlite, Some(wallet)).await;
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    let failed = payed(&world, pay(&quote.quote_id)).await.expect("an answer");
    assert_eq!(failed.status, PaidStatus::Failed);
    assert_eq!(failed.error_code.as_deref(), Some("payment_failed"));
    let proof: Value = serde_json::from_str(failed.payment_proof.expect("the body").get()).expect("JSON");
    assert_eq!(proof["error"]["message"], "no route");
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        BEGIN
    }
}

#[tokio::test]
async fn strictly_an_owner_pays_what_left_the_wallet_and_an_invoice_is_paid_once() {
    for engine in both() {
        let wallet = Arc::new(Simulated::new("sim", Network::Regtest, Arc::new(Standing), msats(1_000_000)));
        let mut config = config();
        config.liquidity.network = Network::Regtest;
        let world = World::paying(engine, config, Some(wallet)).await;
        let invoice =
            simulated::invoice(Network::Regtest, "1", msats(42_000), BEGIN, 600).expect("an invoice");
        let wanted = |key: &str| QuotePay { invoice: invoice.clone(), owner_user_id: Some(11), ..quote(key) };
        let first = quoted(&world, wanted("a")).await.expect("a quote");
        let second = quoted(&world, wanted("b")).await.expect("another quote");
        let done = payed(&world, pay(&first.quote_id)).await.expect("paid");
        assert_eq!((done.status, done.receipt.fee_msats), (PaidStatus::Succeeded, Some(1_000)));
        let refusal = refused(payed(&world, pay(&second.quote_id)).await);
        assert!(refusal.message.starts_with("the invoice was paid already"), "{}", refusal.message);
        let read = async |tx: &mut Tx, (): &()| {
            let account = oa_ledger::AccountId::parse("owner/msats/user:11").expect("an account");
            ledger::account(tx, &account).await
        };
        let account = world.runtime.store.read("account", (), read).await.expect("read");
        assert_eq!(account.balances.debits_posted.get(), 43_000);
        assert!(account.balances.debits_pending.is_zero());
    }
}

#[tokio::test]
async fn strictly_a_preimage_of_something_else_proves_nothing() {
    let wallet = Puppet::new(|_| Ok(paid(42_000, 5)));
    let mut config = config();
    config.liquidity.network = Network::Regtest;
    let world = World::paying(EngineKind::Sqlite, config, Some(wallet)).await;
    let invoice = simulated::invoice(Network::Regtest, "1", msats(42_000), BEGIN, 600).expect("an invoice");
    let quote = quoted(&world, QuotePay { invoice, ..quote("k") }).await.expect("a quote");
    let refusal = refused(payed(&world, pay(&quote.quote_id)).await);
    assert_eq!(refusal.message, "payment already in flight for quote_id");
    let row = world.runtime.payments.outcome(&quote.quote_id).await.expect("read").expect("a payment");
    assert_eq!(row.error_code.as_deref(), Some("payment_unproved"));
    assert_eq!(row.status, PaymentStatus::Unknown);
}

#[tokio::test]
async fn a_payment_that_was_begun_and_never_sent_is_given_back_when_it_may_not_begin_any_more() {
    let heard = |_: &PaymentRef| Ok(PaymentState::NeverHeardOf);
    let mut wallet = Puppet::new(|_| Err(WalletError::unknown("timeout", "nothing was heard")));
    Arc::get_mut(&mut wallet).expect("mine").knows = Box::new(heard);
    let world = lenient(EngineKind::Sqlite, Some(wallet)).await;
    let body = QuotePay { owner_user_id: Some(11), ..quote("k") };
    let quote = quoted(&world, body).await.expect("a quote");
    refused(payed(&world, pay(&quote.quote_id)).await);
    let world = world.restart().await;
    world.clock.advance_ms(30_000);
    assert_eq!(world.runtime.payments.resolve_due().await.expect("asked"), 0);
    world.clock.advance_ms(120_000);
    assert_eq!(world.runtime.payments.resolve_due().await.expect("asked"), 1);
    let told = payed(&world, pay(&quote.quote_id)).await.expect("an answer");
    assert_eq!(told.error_code.as_deref(), Some("payment_never_begun"));
}

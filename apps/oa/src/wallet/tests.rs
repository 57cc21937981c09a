//! The wallet over real sockets, with a SIMULATED one behind it.

use std::sync::Arc;

use oa_lightning::{
    Executor, InvoiceOrder, InvoiceRef, InvoiceState, PayOrder, PaymentRef, PaymentState, simulated,
};

use super::*;
use crate::data_dir::tests::{Scratch, scratch};

struct Served {
    service: Arc<Service>,
    base: String,
    drain: Drain,
    _directory: Scratch,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("msats")
}

async fn serve(change: impl FnOnce(&mut Service)) -> Served {
    let directory = scratch();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let simulated = Arc::new(Simulated::new("w", Network::Regtest, clock.clone(), msats(50_000_000)));
    let store = Store::open(SqliteConfig::new(directory.path().join("wallet.db"))).await.expect("a store");
    let mut service = Service {
        shop: Some(Shop::simulated(&simulated, Network::Regtest, clock.clone())),
        wallet: simulated,
        store,
        clock,
        ids: Arc::new(SystemIds::default()),
        wallet_id: "w".into(),
        record_id: "r".into(),
        busy: Busy::default(),
        network: Network::Regtest,
        limits: Limits {
            usual: Caps { request_msats: 200_000, window_msats: 1_000_000 },
            payouts: Caps { request_msats: 200_000, window_msats: 1_000_000 },
            window_ms: 300_000,
            allowed_hosts: Vec::new(),
        },
        token: Some(SecretString::from("t")),
        token_version: 1,
        patience: Duration::from_secs(5),
    };
    change(&mut service);
    let service = Arc::new(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let drain = Drain::new();
    tokio::spawn(oa_edge::serve(listener, router(service.clone()), drain.clone(), LAST_ANSWERS));
    Served { service, base, drain, _directory: directory }
}

fn plain_client() -> reqwest::Client {
    // Making one of ours chooses the TLS provider of the process.
    let _ = oa_client::Client::new("http://127.0.0.1:1", oa_client::Identity::Nobody);
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

impl Served {
    fn executor(&self) -> Executor {
        Executor::new(&self.base, "t", Duration::from_secs(5)).expect("an executor")
    }

    async fn send(&self, method: &str, path: &str, id: Option<&str>, body: &Value) -> (u16, Value) {
        let http = plain_client();
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = http.request(method, format!("{}{path}", self.base)).bearer_auth("t");
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let answered = request.body(body.to_string()).send().await.expect("an answer");
        let status = answered.status().as_u16();
        (status, answered.json().await.expect("JSON"))
    }

    fn invoice(&self, id: &str, amount: u64) -> String {
        simulated::invoice(Network::Regtest, id, msats(amount), self.service.now(), 600).expect("an invoice")
    }
}

fn body(id: &str, invoice: &str, max: u64) -> Value {
    json!({"requestId": id, "payment": {"invoice": invoice, "maxAmountMsats": max, "host": "Sats4AI.com"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_answered_again_and_a_conflict_with_other_content() {
    let served = serve(|_| {}).await;
    let invoice = served.invoice("1", 42_000);
    let asked = body("p", &invoice, 52_000);
    let (status, first) = served.send("POST", "/pay-bolt11", None, &asked).await;
    assert_eq!(status, 200, "{first}");
    let result = &first["result"];
    assert_eq!(
        (result["requestId"].as_str(), result["quotedAmountMsats"].as_u64()),
        (Some("p"), Some(42_000))
    );
    assert_eq!(result["receipt"]["host"], "sats4ai.com");
    assert_eq!(result["payment"]["feeMsats"], 1_000);
    assert_eq!(result["simulated"], true);
    assert_eq!(served.send("POST", "/pay-bolt11", None, &asked).await.1["result"], *result);
    let (status, told) = served.send("GET", "/payments/p", None, &Value::Null).await;
    assert_eq!((status, &told["result"]), (200, result));
    let (status, refused) = served.send("POST", "/pay-bolt11", None, &body("p", &invoice, 53_000)).await;
    assert_eq!((status, refused["error"]["code"].as_str()), (409, Some("idempotency_conflict")));
    let (status, missing) = served.send("GET", "/payments/q", None, &Value::Null).await;
    assert_eq!((status, missing["error"]["code"].as_str()), (404, Some("payment_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_refused_in_the_words_of_the_protocol() {
    let served = serve(|service| {
        service.limits.allowed_hosts = vec!["sats4ai.com".into()];
        service.limits.usual.window_msats = 100_000;
    })
    .await;
    let invoice = served.invoice("1", 60_000);
    let mut stranger = body("a", &invoice, 60_000);
    stranger["payment"]["host"] = "elsewhere".into();
    for (asked, status, code) in [
        (stranger, 403, "host_not_allowed"),
        (body("b", &invoice, 200_001), 403, "request_cap_exceeded"),
        (body("c", &invoice, 59_999), 403, "quoted_amount_exceeds_cap"),
        (body("d", "lnbc420n1test", 60_000), 502, "prepare_failed"),
        (body("e", "", 60_000), 400, "invalid_request"),
        (json!({"payment": 7}), 400, "invalid_request"),
    ] {
        let (found, refused) = served.send("POST", "/pay-bolt11", None, &asked).await;
        assert_eq!((found, refused["error"]["code"].as_str()), (status, Some(code)), "{refused}");
        assert_eq!(refused["ok"], false);
    }
    assert_eq!(served.send("POST", "/pay-bolt11", None, &body("f", &invoice, 60_000)).await.0, 200);
    let second = served.invoice("2", 60_000);
    let (status, full) = served.send("POST", "/pay-bolt11", None, &body("g", &second, 60_000)).await;
    assert_eq!((status, full["error"]["code"].as_str()), (403, Some("window_cap_exceeded")));
    assert_eq!(full["error"]["details"]["windowSpendMsats"], 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_has_the_token_is_served() {
    let served = serve(|_| {}).await;
    let http = plain_client();
    let open = http.get(format!("{}/healthz", served.base)).send().await.expect("an answer");
    assert_eq!(open.status(), 200);
    for shown in [None, Some("Bearer x"), Some("Basic t")] {
        let mut request = http.get(format!("{}/status", served.base));
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let refused = request.send().await.expect("an answer");
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"wallet-executor\"");
        let refused: Value = refused.json().await.expect("JSON");
        assert_eq!(refused["error"]["message"], "missing or invalid bearer token");
    }
    let any_case = http.get(format!("{}/status", served.base)).header("authorization", "bEaReR t");
    let status: Value = any_case.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        (status["status"]["simulated"].as_bool(), status["status"]["durableIdempotency"].as_bool()),
        (Some(true), Some(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executor_face_and_the_wallet_speak_the_same_protocol() {
    let served = serve(|_| {}).await;
    let executor = served.executor();
    let invoice = served.invoice("1", 42_000);
    let order = PayOrder {
        request_id: "liqpay:liq_quote_1".into(),
        payment_hash: oa_lightning::bolt11::payment_hash(&invoice),
        invoice,
        amount: msats(42_000),
        max_fee: msats(500),
        host: "h".into(),
        not_after: Some(served.service.now().plus_seconds(30)),
    };
    let known = PaymentRef { request_id: order.request_id.clone(), payment_hash: None, begun_at: None };
    let promises = executor.promises().await.expect("promises");
    assert_eq!((promises.memory.as_str(), promises.honours_deadlines), ("w/r", true));
    assert_eq!(executor.payment(&known).await, Ok(PaymentState::NeverHeardOf));
    let paid = executor.pay(&order).await.expect("paid");
    assert_eq!(paid.preimage.map(|preimage| preimage.payment_hash()), order.payment_hash);
    assert_eq!((paid.amount, paid.fee), (Some(msats(42_000)), Some(msats(500))));
    assert!(matches!(executor.payment(&known).await, Ok(PaymentState::Succeeded(_))));
    let late = PayOrder {
        request_id: "late".into(),
        invoice: served.invoice("2", 42_000),
        not_after: Some(served.service.now().plus_seconds(-1)),
        ..order
    };
    let refused = executor.pay(&late).await.expect_err("too late");
    assert!(!refused.is_unknown() && refused.trouble().code == "too_late");
    let wanted = InvoiceOrder {
        request_id: "i".into(),
        amount: msats(7_000),
        memo: Some("m".into()),
        expiry_seconds: Some(60),
    };
    let made = executor.create_invoice(&wanted).await.expect("an invoice");
    assert_eq!(executor.create_invoice(&wanted).await.expect("the same"), made);
    let invoice = InvoiceRef { request_id: "i".into(), payment_hash: made.payment_hash.clone() };
    assert_eq!(executor.invoice(&invoice).await, Ok(InvoiceState::Open));
    let paid = served.send("POST", "/simulated/receive", None, &json!({"invoice": made.bolt11})).await;
    assert_eq!(paid.1["result"]["settled"], true);
    assert!(
        matches!(executor.invoice(&invoice).await, Ok(InvoiceState::Settled { received, .. }) if received == msats(7_000))
    );
    let (a, b) = (executor.receive_address("a").await, executor.receive_address("b").await);
    assert_ne!(a.as_ref().expect("an address").address, b.expect("an address").address);
    assert_eq!(executor.receive_address("a").await, a);
    assert_eq!(executor.channel_health().await.expect("channels").channel_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_sent_on_chain_by_a_plan_and_once() {
    let served = serve(|_| {}).await;
    let executor = served.executor();
    let order = oa_lightning::OnchainOrder {
        request_id: "s".into(),
        address: "bcrt1qsomebody".into(),
        amount_sats: 100,
        max_fee_sats: Some(40),
        speed: oa_lightning::Speed::Medium,
    };
    let sent = executor.send_onchain(&order).await.expect("sent");
    assert_eq!(sent.fee_sats, Some(40));
    assert_eq!(executor.send_onchain(&order).await.expect("sent before").txid, sent.txid);
    assert!(matches!(executor.onchain_payment("s").await, Ok(oa_lightning::OnchainState::Sent(_))));
    let normal = json!({"requestId": "n", "payment": {"address": "bcrt1qx", "amountSats": 5, "confirmationSpeed": "normal"}});
    let (status, quoted) = served.send("POST", "/send-onchain/quote", None, &normal).await;
    assert_eq!((status, quoted["result"]["confirmationSpeed"].as_str()), (200, Some("medium")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_routes_pay_once_and_give_no_seed() {
    let served = serve(|_| {}).await;
    let made = served
        .send("POST", "/wallets/create", None, &json!({"walletId": "user-7", "mnemonic": "abandon"}))
        .await;
    assert_eq!((made.0, made.1["result"]["status"].as_str()), (200, Some("active")));
    assert!(made.1["result"].get("mnemonic").is_none());
    let invoice = served.invoice("1", 42_000);
    let asked = json!({"walletId": "user-7", "invoice": invoice, "maxAmountMsats": 52_000, "host": "h"});
    let first = served.send("POST", "/wallets/pay-bolt11", Some("r"), &asked).await;
    assert_eq!((first.0, first.1["result"]["status"].as_str()), (200, Some("completed")), "{}", first.1);
    assert_eq!(
        served.send("POST", "/wallets/pay-bolt11", Some("r"), &asked).await.1["result"],
        first.1["result"]
    );
    assert_eq!(served.send("GET", "/payments/r", None, &Value::Null).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_of_a_simulated_wallet_is_paid_by_it_and_pays_it() {
    let served = serve(|_| {}).await;
    let wanted = json!({"amountMsats": 42_000, "description": "bread"});
    let (status, bill) = served.send("POST", "/simulated/shop/invoices", Some("bill"), &wanted).await;
    assert_eq!(status, 200, "{bill}");
    assert_eq!(served.send("POST", "/simulated/shop/invoices", Some("bill"), &wanted).await.1, bill);
    let was_paid = async || {
        let (_, told) = served.send("GET", "/simulated/shop/invoices/bill", None, &Value::Null).await;
        told["result"]["receivedMsats"].as_u64()
    };
    assert_eq!(was_paid().await, None);
    let invoice = bill["result"]["invoice"].as_str().expect("an invoice");
    assert_eq!(served.send("POST", "/pay-bolt11", None, &body("p", invoice, 52_000)).await.0, 200);
    assert_eq!(was_paid().await, Some(42_000));
    assert_eq!(served.send("GET", "/simulated/shop/invoices/none", None, &Value::Null).await.0, 404);

    let wanted = json!({"amountSats": 21});
    let (_, made) = served.send("POST", "/create-invoice", Some("deposit"), &wanted).await;
    let asked = json!({"invoice": made["result"]["invoice"]});
    let (status, paid) = served.send("POST", "/simulated/shop/payments", Some("pay"), &asked).await;
    assert_eq!(status, 200, "{paid}");
    assert_eq!(served.send("POST", "/simulated/shop/payments", Some("pay"), &asked).await.1, paid);
    let (_, told) = served.send("GET", "/invoices/deposit", None, &Value::Null).await;
    assert_eq!(
        (&told["result"]["state"], &told["result"]["receivedMsats"]),
        (&json!("settled"), &json!(21_000))
    );
    let refused = served.send("POST", "/simulated/shop/payments", None, &json!({"invoice": "lnbc1"})).await;
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (502, Some("prepare_failed")));
}

/// A clock that a test moves.
struct Moved(std::sync::atomic::AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

fn moved() -> Arc<Moved> {
    Arc::new(Moved(std::sync::atomic::AtomicI64::new(SystemClock::default().now().micros())))
}

impl Moved {
    fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    }
}

fn sending() -> oa_lightning::OnchainOrder {
    oa_lightning::OnchainOrder {
        request_id: "s".into(),
        address: "bcrt1qsomebody".into(),
        amount_sats: 100,
        max_fee_sats: Some(40),
        speed: oa_lightning::Speed::Medium,
    }
}

/// Writes a request as whoever begins it does, and ends there: what a crash is.
async fn begun_and_never_handed_over(served: &Served, kind: &'static str, id: &str, asked: Value) {
    let begin = book::Begin {
        kind,
        id: id.into(),
        fingerprint: "f".into(),
        spend: msats(140_000),
        asked,
        lane: Lane::Payout,
        limits: served.service.limits.clone(),
        now: served.service.now(),
    };
    book::begin(&served.service.store, begin).await.expect("begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_that_never_came_to_the_wallet_is_handed_over_again_and_once() {
    let clock = moved();
    let held = clock.clone();
    let served = serve(|service| service.clock = held).await;
    let executor = served.executor();
    let quote = json!({"requestId": "s", "payment": {"address": "bcrt1qsomebody", "amountSats": 100, "confirmationSpeed": "medium"}});
    let (status, quoted) = served.send("POST", "/send-onchain/quote", None, &quote).await;
    assert_eq!(status, 200, "{quoted}");
    begun_and_never_handed_over(&served, "onchain", "s", quoted["result"].clone()).await;
    assert_eq!(executor.onchain_payment("s").await, Ok(oa_lightning::OnchainState::InFlight));
    // It may still be on its way, so nobody sends it yet.
    clock.advance_seconds(60);
    served.service.look_after_open().await;
    assert_eq!(executor.onchain_payment("s").await, Ok(oa_lightning::OnchainState::InFlight));
    clock.advance_seconds(61);
    served.service.look_after_open().await;
    let Ok(oa_lightning::OnchainState::Sent(sent)) = executor.onchain_payment("s").await else {
        panic!("it was not sent")
    };
    let simulated = served.service.shop.as_ref().and_then(Shop::ours).expect("a simulated wallet");
    let left = simulated.balances().await.expect("balances").spendable_msats;
    assert_eq!(left, 50_000_000 - 140_000);
    clock.advance_seconds(600);
    served.service.look_after_open().await;
    assert_eq!(
        executor.send_onchain(&sending()).await.expect_err("another fingerprint").trouble().code,
        "idempotency_conflict"
    );
    assert_eq!(simulated.send_onchain(&sending()).await.expect("sent before").txid, sent.txid);
    assert_eq!(simulated.balances().await.expect("balances").spendable_msats, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_after_what_is_being_made() {
    let clock = moved();
    let held = clock.clone();
    let served = serve(|service| service.clock = held).await;
    let turn = served.service.busy.take("onchain", "s").expect("free");
    begun_and_never_handed_over(
        &served,
        "onchain",
        "s",
        json!({"planId": "s", "address": "bcrt1qsomebody",
        "amountSats": 100, "feeSats": 40, "totalSats": 140, "confirmationSpeed": "medium"}),
    )
    .await;
    clock.advance_seconds(3_600);
    served.service.look_after_open().await;
    assert_eq!(served.executor().onchain_payment("s").await, Ok(oa_lightning::OnchainState::InFlight));
    drop(turn);
    served.service.look_after_open().await;
    assert!(matches!(served.executor().onchain_payment("s").await, Ok(oa_lightning::OnchainState::Sent(_))));
}

/// A wallet that keeps no deadlines, and never hears of anything.
struct Deaf;

impl Wallet for Deaf {
    fn about(&self) -> oa_lightning::About {
        oa_lightning::About {
            face: "lnd",
            wallet_id: "lnd".into(),
            simulated: false,
            honours_deadlines: false,
        }
    }

    fn pay<'a>(
        &'a self,
        _: &'a PayOrder,
    ) -> oa_lightning::Later<'a, Result<oa_lightning::Paid, oa_lightning::WalletError>> {
        Box::pin(async { Err(oa_lightning::WalletError::unknown("payment_pending", "no word")) })
    }

    fn payment<'a>(
        &'a self,
        _: &'a PaymentRef,
    ) -> oa_lightning::Later<'a, Result<PaymentState, oa_lightning::WalletError>> {
        Box::pin(async { Ok(PaymentState::NeverHeardOf) })
    }

    fn create_invoice<'a>(
        &'a self,
        _: &'a InvoiceOrder,
    ) -> oa_lightning::Later<'a, Result<oa_lightning::Invoice, oa_lightning::WalletError>> {
        Box::pin(async { Err(oa_lightning::WalletError::not_done("unsupported", "no")) })
    }

    fn invoice<'a>(
        &'a self,
        _: &'a InvoiceRef,
    ) -> oa_lightning::Later<'a, Result<InvoiceState, oa_lightning::WalletError>> {
        Box::pin(async { Ok(InvoiceState::NeverHeardOf) })
    }

    fn balances<'a>(
        &'a self,
    ) -> oa_lightning::Later<'a, Result<oa_lightning::Balances, oa_lightning::WalletError>> {
        Box::pin(async { Ok(oa_lightning::Balances::default()) })
    }

    fn status<'a>(&'a self) -> oa_lightning::Later<'a, Result<Value, oa_lightning::WalletError>> {
        Box::pin(async { Ok(Value::Null) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_node_that_keeps_no_deadlines_only_an_old_invoice_is_never_paid() {
    let clock = moved();
    let held = clock.clone();
    let served = serve(|service| {
        service.clock = held;
        service.wallet = Arc::new(Deaf);
    })
    .await;
    let invoice = served.invoice("1", 42_000);
    let mut asked = body("p", &invoice, 52_000);
    asked["notAfterMs"] = served.service.now().plus_seconds(30).millis().into();
    assert_eq!(served.send("POST", "/pay-bolt11", None, &asked).await.0, 504);
    let known = PaymentRef { request_id: "p".into(), payment_hash: None, begun_at: None };
    clock.advance_seconds(300);
    assert_eq!(served.executor().payment(&known).await, Ok(PaymentState::InFlight));
    // The invoice was good for ten minutes, and nobody takes it after that.
    clock.advance_seconds(361);
    assert!(matches!(served.executor().payment(&known).await, Ok(PaymentState::Failed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn payouts_have_limits_and_a_window_of_their_own() {
    let served =
        serve(|service| service.limits.payouts = Caps { request_msats: 5_000_000, window_msats: 6_000_000 })
            .await;
    let large = served.invoice("1", 4_000_000);
    let mut payout = body("a", &large, 4_100_000);
    assert_eq!(
        served.send("POST", "/pay-bolt11", None, &payout).await.1["error"]["code"],
        "request_cap_exceeded"
    );
    payout["payment"]["host"] = "L402.openagents.com".into();
    assert_eq!(served.send("POST", "/pay-bolt11", None, &payout).await.0, 200);
    // What was paid out takes nothing of the window of others, and the other way round.
    assert_eq!(
        served.send("POST", "/pay-bolt11", None, &body("b", &served.invoice("2", 60_000), 60_000)).await.0,
        200
    );
    payout["requestId"] = "c".into();
    payout["payment"]["invoice"] = served.invoice("3", 4_000_000).into();
    let (status, full) = served.send("POST", "/pay-bolt11", None, &payout).await;
    assert_eq!((status, full["error"]["code"].as_str()), (403, Some("window_cap_exceeded")));
    assert_eq!(full["error"]["details"]["windowSpendMsats"], 4_000_000);
    let (_, status) = served.send("GET", "/status", None, &Value::Null).await;
    assert_eq!(
        (&status["status"]["mode"], &status["status"]["payoutCapMsats"]),
        (&json!("mock"), &json!(5_000_000))
    );
}

#[tokio::test]
async fn a_memory_keeps_its_name_and_a_new_one_has_another() {
    let directory = scratch();
    let open = async |name: &str| {
        let store = Store::open(SqliteConfig::new(directory.path().join(name))).await.expect("a store");
        let named =
            book::memory(&store, SystemIds::default().uuid32(), Timestamp::EPOCH).await.expect("a name");
        store.close().await;
        named
    };
    let first = open("wallet.db").await;
    assert_eq!(open("wallet.db").await, first);
    assert_ne!(open("other.db").await, first);
}

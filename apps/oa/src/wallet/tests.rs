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
        network: Network::Regtest,
        limits: Limits {
            request_cap_msats: 200_000,
            window_cap_msats: 1_000_000,
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
        service.limits.window_cap_msats = 100_000;
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
    let known = PaymentRef { request_id: order.request_id.clone(), payment_hash: None };
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

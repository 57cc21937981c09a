//! Payments through real LDK nodes, by the binary: paid, proved, and ended by `kill -9` everywhere in between. The
//! chain under the nodes is SIMULATED; channels, preimages and processes are not.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::Child,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use oa_contract::{
    canonical::{canonical_hash, hex},
    receipt::ReceiptSignature,
};
use oa_testkit::{Answered, Http};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};

use crate::server::{Server, oa};

const QUOTE: &str = "/internal/v1/liquidity/quote_pay";
const PAY: &str = "/internal/v1/liquidity/pay";
const TOKEN: &str = "wallet-token";
const AMOUNT_MSATS: u64 = 42_000;
/// What the hub takes.
const FEE_MSATS: u64 = 1_000;

/// `oa wallet` with its nodes, on a folder and a port that stay the same over restarts.
struct Wallet {
    data: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Wallet {
    fn new(data: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Wallet { data, port, child: None }
    }

    fn http(&self) -> Http {
        Http::new(format!("http://127.0.0.1:{}", self.port), Some(TOKEN.into()))
    }

    async fn start(&mut self) {
        let log = self.data.with_extension("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = oa();
        command.arg("wallet").arg("--data").arg(&self.data).envs([
            ("OA_LIGHTNING_WALLET_EXECUTOR_MODE", "ldk"),
            ("OA_LIGHTNING_WALLET_EXECUTOR_PORT", self.port.to_string().as_str()),
            ("OA_LIGHTNING_WALLET_EXECUTOR_AUTH_TOKEN", TOKEN),
            ("OA_LIGHTNING_WALLET_WINDOW_CAP_MSATS", "5000000000"),
            ("OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS", "1000000"),
        ]);
        self.child = Some(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap());
        let (begun, probe) = (Instant::now(), self.http());
        while !probe.is_ok("/healthz").await {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the wallet ended with {ended:?}:\n{}", said());
            assert!(begun.elapsed() < Duration::from_secs(60), "the wallet is not ready:\n{}", said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether it has ended by itself.
    fn is_gone(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// From now on it ends itself as `kill -9` does, at one side of a commit of its nodes.
    fn end_at(&self, commit: u64, side: &str) {
        std::fs::write(self.data.join("ldk/end-at"), format!("{commit} {side}")).unwrap();
    }

    fn end_nowhere(&self) {
        let _ = std::fs::remove_file(self.data.join("ldk/end-at"));
    }

    /// An invoice of the shop.
    async fn bill(&self, id: &str) -> Bill {
        let body = json!({"amountMsats": AMOUNT_MSATS, "description": id});
        let made = self.http().post_with("/simulated/shop/invoices", &body, &[("x-request-id", id)]).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let result = &made.json()["result"];
        Bill {
            id: id.to_owned(),
            invoice: result["invoice"].as_str().unwrap().to_owned(),
            payment_hash: result["paymentHash"].as_str().unwrap().to_owned(),
        }
    }

    /// What the shop says that it was paid.
    async fn received_msats(&self, bill: &Bill) -> Option<u64> {
        let said = self.http().get(&format!("/simulated/shop/invoices/{}", bill.id)).await;
        assert_eq!(said.status, 200, "{}", said.text());
        said.json()["result"]["receivedMsats"].as_u64()
    }

    async fn spendable_sats(&self) -> u64 {
        self.http().get("/status").await.json()["status"]["balanceSats"].as_u64().unwrap()
    }
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Bill {
    id: String,
    invoice: String,
    payment_hash: String,
}

/// What stands between the runtime and the wallet does with the next order to pay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Open,
    /// It does not arrive.
    Lost,
    /// It arrives, and we know it.
    Seen,
    /// It arrives, and its answer does not.
    AnswerLost,
}

/// The way from the runtime to the wallet.
struct Relay {
    port: u16,
    way: Arc<Mutex<Way>>,
    happened: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn to(wallet_port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, happened) = (Arc::new(Mutex::new(Way::Open)), Arc::new(Notify::new()));
        let (shared, tell) = (way.clone(), happened.clone());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, wallet_port, shared.clone(), tell.clone()));
            }
        });
        Relay { port, way, happened, task }
    }

    fn is_now(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one connection, which carries one request at a time.
async fn carry(mut near: TcpStream, wallet_port: u16, way: Arc<Mutex<Way>>, happened: Arc<Notify>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", wallet_port)).await else { return };
    let (mut from_near, mut from_far) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_order = false;
    loop {
        tokio::select! {
            read = near.read(&mut from_near) => {
                let Ok(length @ 1..) = read else { return };
                let said = &from_near[..length];
                let begins = |start: &str| said.starts_with(start.as_bytes());
                if begins("POST ") || begins("GET ") {
                    is_order = begins("POST /pay-bolt11");
                }
                let now = if is_order { *way.lock().unwrap() } else { Way::Open };
                if now == Way::Lost {
                    happened.notify_one();
                    // It is silence that we are after, and no broken connection.
                    return std::future::pending().await;
                }
                if far.write_all(said).await.is_err() {
                    return;
                }
                if now == Way::Seen {
                    happened.notify_one();
                }
            }
            read = far.read(&mut from_far) => {
                let Ok(length @ 1..) = read else { return };
                if is_order && *way.lock().unwrap() == Way::AnswerLost {
                    happened.notify_one();
                    return std::future::pending().await;
                }
                if near.write_all(&from_far[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A runtime, a wallet, and the way between them.
struct Scene {
    runtime: Server,
    wallet: Wallet,
    relay: Relay,
    _home: tempfile::TempDir,
}

impl Scene {
    async fn open() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut wallet = Wallet::new(home.path().join("wallet"));
        wallet.start().await;
        let relay = Relay::to(wallet.port).await;
        let mut runtime = Server::new(&home.path().join("runtime"));
        let base = format!("http://127.0.0.1:{}", relay.port);
        runtime.environment = vec![
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", base),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", TOKEN.into()),
            ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_TIMEOUT_MS", "6000".into()),
            ("RUNTIME_LIGHTNING_NETWORK", "regtest".into()),
            ("RUNTIME_BRIDGE_NOSTR_SECRET_KEY", "03".repeat(32)),
        ];
        runtime.start().await;
        Scene { runtime, wallet, relay, _home: home }
    }

    async fn quote(&self, bill: &Bill) -> String {
        let body = json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": bill.id,
            "invoice": bill.invoice, "host": "shop", "max_amount_msats": 100_000, "max_fee_msats": 10_000});
        let quoted = self.runtime.http().post(QUOTE, &body).await;
        assert_eq!(quoted.status, 200, "{}", quoted.text());
        quoted.json()["quote_id"].as_str().unwrap().to_owned()
    }

    /// Asks for the payment of a quote; nobody may be there to answer.
    fn pay(&self, quote_id: &str) -> JoinHandle<Answered> {
        let http = self.runtime.http();
        let body = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quote_id});
        tokio::spawn(async move { http.post(PAY, &body).await })
    }

    /// Asks until it is known how the payment ended.
    async fn outcome(&self, quote_id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let answered = self.pay(quote_id).await.unwrap();
            if answered.status == 200 {
                return answered.json();
            }
            assert_eq!(answered.status, 409, "{}", answered.text());
            assert!(begun.elapsed() < Duration::from_secs(150), "nobody knows how {quote_id} ended");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// That the invoice was paid, from nothing but what was answered and the invoice's hash.
fn is_proved(told: &Value, bill: &Bill) {
    let preimage = told["payment_proof"]["result"]["payment"]["preimageHex"].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&preimage[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert_eq!(hex(&Sha256::digest(bytes)), bill.payment_hash);
    assert_eq!(told["preimage_sha256"], hex(&Sha256::digest(preimage)));
}

/// That a receipt says what was signed: the digest over its members (liquidity §4.2), and its signature.
fn is_whole(receipt: &Value) {
    let covered = [
        "schema",
        "quote_id",
        "invoice_hash",
        "host",
        "quoted_amount_msats",
        "max_amount_msats",
        "max_fee_msats",
        "max_amount_forwarded_msats",
        "status",
        "wallet_receipt_sha256",
        "preimage_sha256",
        "paid_at_ms",
        "error_code",
        "error_message",
        "policy_context_sha256",
        "run_id",
        "trajectory_hash",
        "created_at",
    ];
    let members = covered.map(|name| (name.to_owned(), receipt[name].clone()));
    let digest = canonical_hash(&Value::Object(members.into_iter().collect()));
    assert_eq!(receipt["canonical_json_sha256"], digest.as_str());
    let signature: ReceiptSignature = serde_json::from_value(receipt["signature"].clone()).unwrap();
    assert!(signature.proves(&digest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_is_paid_through_real_channels_and_proved_by_its_preimage() {
    let mut scene = Scene::open().await;
    let before = scene.wallet.spendable_sats().await;
    let bill = scene.wallet.bill("bill").await;
    let quote_id = scene.quote(&bill).await;

    let told = scene.outcome(&quote_id).await;

    assert_eq!(told["status"], "succeeded", "{told}");
    is_proved(&told, &bill);
    is_whole(&told["receipt"]);
    assert_eq!(told["receipt"]["fee_msats"], FEE_MSATS);
    assert_eq!(scene.wallet.received_msats(&bill).await, Some(AMOUNT_MSATS));
    assert_eq!(before - scene.wallet.spendable_sats().await, (AMOUNT_MSATS + FEE_MSATS) / 1_000);
    scene.wallet.kill();
    scene.wallet.start().await;
    assert_eq!(scene.outcome(&quote_id).await, told);
    let status = scene.wallet.http().get("/status").await.json();
    assert_eq!(status["status"]["simulated"], true, "the chain is, so the money is");
}

/// Who is killed, and where.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The wallet, at one side of a commit of its nodes.
    Commit(u64, &'static str),
    /// The runtime, the wallet, or both, when the order is lost, arrives, or its answer is lost.
    Between(Way, bool, bool),
}

async fn kill_at(scene: &mut Scene, place: Place, quote_id: &str) -> bool {
    let mut killed = true;
    match place {
        Place::Commit(commit, side) => {
            scene.wallet.end_at(commit, side);
            let paying = scene.pay(quote_id);
            while !scene.wallet.is_gone() && !paying.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Whoever is told has been told by a process that is gone: no earlier, or it was never killed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            killed = scene.wallet.is_gone();
            scene.wallet.end_nowhere();
            scene.wallet.kill();
            scene.wallet.start().await;
        }
        Place::Between(way, runtime, wallet) => {
            // What an earlier order left behind tells nothing about this one.
            let _ = tokio::time::timeout(Duration::ZERO, scene.relay.happened.notified()).await;
            scene.relay.is_now(way);
            let _paying = scene.pay(quote_id);
            let happened = tokio::time::timeout(Duration::from_secs(20), scene.relay.happened.notified());
            happened.await.expect("the order was seen");
            if runtime {
                scene.runtime.kill();
            }
            if wallet {
                scene.wallet.kill();
            }
            scene.relay.is_now(Way::Open);
            if wallet {
                scene.wallet.start().await;
            }
            if runtime {
                scene.runtime.start().await;
            }
        }
    }
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_wherever_nothing_is_paid_twice_and_nothing_is_lost() {
    let commits = [0, 1, 2, 4, 6, 9, 12, 14, 16, 19, 22, 25, 28, 30];
    let sides = ["before", "after"];
    let commits = commits.iter().enumerate().map(|(at, commit)| Place::Commit(*commit, sides[at % 2]));
    let between = [Way::Lost, Way::Seen, Way::AnswerLost].into_iter().flat_map(|way| {
        [(true, false), (false, true), (true, true)]
            .map(|(runtime, wallet)| Place::Between(way, runtime, wallet))
    });
    let mut scene = Scene::open().await;
    let before = scene.wallet.spendable_sats().await;
    let (mut begun, mut kills) = (Vec::new(), 0);
    for (at, place) in commits.chain(between).enumerate() {
        let bill = scene.wallet.bill(&format!("bill-{at}")).await;
        let quote_id = scene.quote(&bill).await;
        kills += u32::from(kill_at(&mut scene, place, &quote_id).await);
        begun.push((place, bill, quote_id));
    }

    let (mut paid, mut receipts) = (0, Vec::new());
    for (place, bill, quote_id) in &begun {
        let told = scene.outcome(quote_id).await;
        is_whole(&told["receipt"]);
        match told["status"].as_str() {
            Some("succeeded") => {
                is_proved(&told, bill);
                assert_eq!(scene.wallet.received_msats(bill).await, Some(AMOUNT_MSATS), "{place:?}");
                assert_eq!(told["receipt"]["fee_msats"], FEE_MSATS);
                paid += 1;
            }
            _ => assert_eq!(scene.wallet.received_msats(bill).await, None, "{place:?}: {told}"),
        }
        receipts.push(told["receipt"].clone());
    }
    let spent = before - scene.wallet.spendable_sats().await;
    assert_eq!(spent, paid * (AMOUNT_MSATS + FEE_MSATS) / 1_000, "each was paid once");
    assert!(kills >= 20, "{kills} kills prove too little");
    assert!(paid >= 12, "only {paid} of {} were paid", begun.len());
    println!("{kills} kills, {} payments: {paid} paid once, the others surely not", begun.len());

    scene.wallet.kill();
    scene.runtime.kill();
    scene.wallet.start().await;
    scene.runtime.start().await;
    for ((_, _, quote_id), receipt) in begun.iter().zip(&receipts) {
        assert_eq!(&scene.outcome(quote_id).await["receipt"], receipt, "it is the same for ever");
    }
}

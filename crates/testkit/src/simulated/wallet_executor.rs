//! SIMULATED wallet executor (liquidity §9.2, §9.4): keeps its own keys and remembers what it was asked, even when it dies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oa_contract::canonical::hex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    lightning::SimulatedLightning,
    server::{Asked, Said, Server},
};

pub const TOKEN: &str = "executor-token";

/// What it does with the next payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// Pays and never says so.
    PaysSilently,
    /// Pays and cuts the connection.
    PaysAndCuts,
    /// Does not pay and answers nonsense.
    Garbage,
    /// Refuses with this status and code, and does not pay.
    Refuses(u16, &'static str),
    /// Says that it paid, with a preimage of something else.
    Lies,
    /// Pays, and names an amount that there is not.
    Exaggerates,
}

struct State {
    mood: Mood,
    /// Whether anybody may ask about payments.
    tells: bool,
    done: HashMap<String, Value>,
    asked_to_pay: u32,
    asked_about: u32,
    seeds_seen: u32,
    wallets: Vec<String>,
}

pub struct SimulatedWalletExecutor {
    server: Server,
    state: Arc<Mutex<State>>,
    paid: Arc<Notify>,
    pub lightning: SimulatedLightning,
}

impl SimulatedWalletExecutor {
    pub async fn start(lightning: SimulatedLightning) -> Self {
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Good,
            tells: true,
            done: HashMap::new(),
            asked_to_pay: 0,
            asked_about: 0,
            seeds_seen: 0,
            wallets: Vec::new(),
        }));
        let paid = Arc::new(Notify::new());
        let (held, network, noted) = (state.clone(), lightning.clone(), paid.clone());
        let server = Server::start(move |asked| {
            let said = answer(&asked, &mut locked(&held), &network, &noted);
            async move { said }
        })
        .await;
        SimulatedWalletExecutor { server, state, paid, lightning }
    }

    /// What control is told about it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SPARK_EXECUTOR_BASE_URL", self.server.url()),
            ("SPARK_EXECUTOR_AUTH_TOKEN", TOKEN.into()),
            ("SPARK_EXECUTOR_TIMEOUT_MS", "400".into()),
        ]
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn down(&self) {
        self.server.kill();
    }

    pub async fn up(&self) {
        self.server.revive().await;
    }

    pub fn become_(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }

    /// Whether it says what became of payments.
    pub fn tells(&self, tells: bool) {
        locked(&self.state).tells = tells;
    }

    /// Waits until something is paid from now on.
    pub async fn has_paid(&self) {
        self.paid.notified().await;
    }

    pub fn asked_to_pay(&self) -> u32 {
        locked(&self.state).asked_to_pay
    }

    /// How often somebody asked what became of a payment.
    pub fn asked_about(&self) -> u32 {
        locked(&self.state).asked_about
    }

    /// Requests that held anything like a seed.
    pub fn seeds_seen(&self) -> u32 {
        locked(&self.state).seeds_seen
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(status: u16, code: &str) -> Said {
    Said::json(
        status,
        &json!({"ok": false, "error": {"requestId": "r", "code": code, "message": "simulated"}}),
    )
}

fn answer(asked: &Asked, state: &mut State, lightning: &SimulatedLightning, paid: &Notify) -> Said {
    if asked.header("authorization") != format!("Bearer {TOKEN}") {
        return error(401, "unauthorized");
    }
    let text = String::from_utf8_lossy(&asked.body).to_lowercase();
    state.seeds_seen += u32::from(text.contains("mnemonic") || text.contains("seed"));
    let segments = asked.segments();
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    state.asked_about += u32::from(matches!(segments.as_slice(), ["payments", _]));
    match (asked.method.as_str(), segments.as_slice()) {
        ("POST", ["wallets", "create"]) => {
            let wallet = asked.json()["walletId"].as_str().unwrap_or_default().to_owned();
            state.wallets.push(wallet.clone());
            Said::json(200, &json!({"ok": true, "result": {"walletId": wallet, "status": "active"}}))
        }
        ("POST", ["wallets", "pay-bolt11"]) => pay(asked, state, lightning, paid, false),
        ("POST", ["pay-bolt11"]) => pay(asked, state, lightning, paid, true),
        ("GET", ["status"]) => Said::json(
            200,
            &json!({"ok": true, "requestId": "r", "status": {"walletId": "simulated", "balanceSats": 250_000}}),
        ),
        ("GET", ["payments", _]) if !state.tells => error(503, "connect_failed"),
        ("GET", ["payments", id]) => match state.done.get(*id) {
            Some(done) => Said::json(200, done),
            None => error(404, "payment_not_found"),
        },
        _ => error(404, "not_found"),
    }
}

/// `modern`: the group of §9.2, with its own shapes.
fn pay(
    asked: &Asked,
    state: &mut State,
    lightning: &SimulatedLightning,
    paid: &Notify,
    modern: bool,
) -> Said {
    state.asked_to_pay += 1;
    let body = asked.json();
    let id = match modern {
        true => body["requestId"].as_str().unwrap_or_default().to_owned(),
        false => asked.header("x-request-id").to_owned(),
    };
    if let Some(done) = state.done.get(&id) {
        return Said::json(200, done);
    }
    let invoice = if modern { &body["payment"]["invoice"] } else { &body["invoice"] };
    match state.mood.clone() {
        Mood::Garbage => return Said::text(200, "<html>paid, surely"),
        Mood::Refuses(status, code) => return error(status, code),
        Mood::Lies => {
            let result = json!({"paymentId": "p", "preimage": "ab".repeat(32), "amountMsats": 1,
                "receipt": {"canonicalJsonSha256": "cd".repeat(32)}});
            return Said::json(200, &json!({"ok": true, "result": result}));
        }
        Mood::Good | Mood::PaysSilently | Mood::PaysAndCuts | Mood::Exaggerates => {}
    }
    let Some((preimage, amount)) = lightning.pay(invoice.as_str().unwrap_or_default()) else {
        return error(404, "invoice_not_found");
    };
    let amount = if state.mood == Mood::Exaggerates { u64::MAX } else { amount };
    let payment_id = format!("pay-{}", state.asked_to_pay);
    let result = match modern {
        true => json!({"requestId": id, "walletId": "simulated", "quotedAmountMsats": amount,
            "payment": {"paymentId": payment_id, "amountMsats": amount, "preimageHex": hex(&preimage), "paidAtMs": 1, "feeMsats": 3},
            "receipt": {"canonicalJsonSha256": "cd".repeat(32), "preimageSha256": "ef".repeat(32), "paidAtMs": 1}}),
        false => json!({"walletId": body["walletId"], "paymentId": payment_id,
            "preimage": hex(&preimage), "status": "completed", "amountMsats": amount, "paidAtMs": 1}),
    };
    let done = json!({"ok": true, "requestId": id, "result": result});
    state.done.insert(id, done.clone());
    paid.notify_one();
    match state.mood {
        Mood::PaysSilently => Said::Silence,
        Mood::PaysAndCuts => Said::Cut,
        _ => Said::json(200, &done),
    }
}

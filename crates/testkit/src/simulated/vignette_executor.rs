//! SIMULATED wallet executor of the specification's own scenario (liquidity §15): made-up invoices that anybody can pay,
//! one address for everybody, and a balance that never changes. It remembers what it was asked, by request id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use oa_contract::canonical::sha256_hex;
use serde_json::{Value, json};

use super::server::{Asked, Said, Server};

pub const VIGNETTE_TOKEN: &str = "vignette-wallet-token";
pub const VIGNETTE_ADDRESS: &str = "bc1qvignette000000000000000000000000000000";

#[derive(Default)]
struct State {
    done: HashMap<String, Value>,
    /// Sendings and payments that left it.
    paid: u32,
    plans: HashMap<String, u64>,
    /// Nothing is served but health and payments.
    only_pays: bool,
}

pub struct VignetteExecutor {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl VignetteExecutor {
    pub async fn start() -> Self {
        Self::with(State::default()).await
    }

    /// The one of the treasury router's scenario (§15.2): `/healthz` and `/pay-bolt11`, and not even `/status`.
    pub async fn that_only_pays() -> Self {
        Self::with(State { only_pays: true, ..State::default() }).await
    }

    async fn with(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        let held = state.clone();
        let server = Server::start(move |asked| {
            let said = answer(&asked, &mut held.lock().unwrap_or_else(PoisonError::into_inner));
            async move { said }
        })
        .await;
        VignetteExecutor { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How often money has left it.
    pub fn paid(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).paid
    }
}

/// A made-up invoice for so many msats.
pub fn vignette_invoice(msats: u64) -> String {
    format!("lnbc{}n1vignette", msats / 100)
}

fn answer(asked: &Asked, state: &mut State) -> Said {
    if asked.path == "/healthz" {
        return Said::json(200, &json!({"ok": true, "requestId": "r"}));
    }
    if asked.header("authorization") != format!("Bearer {VIGNETTE_TOKEN}") {
        return refused(401, "unauthorized", "missing or invalid bearer token");
    }
    if state.only_pays && asked.path != "/pay-bolt11" {
        return Said::text(404, "");
    }
    let (body, id) = (asked.json(), asked.header("x-request-id").to_owned());
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/status") => {
            Said::json(200, &json!({"ok": true, "requestId": "r", "status": {"balanceSats": 250_000}}))
        }
        ("POST", "/create-invoice") => once(state, &id, |_| {
            let msats = body["amountSats"].as_u64().unwrap_or_default() * 1_000;
            let invoice = vignette_invoice(msats);
            json!({"requestId": id, "invoiceHash": sha256_hex(&invoice), "invoice": invoice, "amountMsats": msats})
        }),
        ("GET", "/receive-address") => done(
            &json!({"sparkAddress": "spark-vignette", "bitcoinAddress": VIGNETTE_ADDRESS, "network": "mainnet"}),
        ),
        ("POST", "/pay-bolt11") => {
            let id = body["requestId"].as_str().unwrap_or(&id).to_owned();
            let invoice = body["payment"]["invoice"].as_str().unwrap_or_default().to_owned();
            once(state, &id, |state| {
                state.paid += 1;
                json!({"requestId": id, "walletId": "wallet-1",
                    "payment": {"paymentId": format!("mock-pay-{}", state.paid), "preimageHex": "ab".repeat(32), "paidAtMs": 1_772_020_801_234_i64},
                    "receipt": {"canonicalJsonSha256": sha256_hex(&format!("{id}|{invoice}")), "paidAtMs": 1_772_020_801_234_i64}})
            })
        }
        ("POST", "/send-onchain/quote") => {
            let plan = body["requestId"].as_str().unwrap_or(&id).to_owned();
            let amount = body["payment"]["amountSats"].as_u64().unwrap_or_default();
            state.plans.insert(plan.clone(), amount);
            done(&json!({"planId": plan, "amountSats": amount, "feeSats": 40, "totalSats": amount + 40,
                "address": body["payment"]["address"], "confirmationSpeed": body["payment"]["confirmationSpeed"]}))
        }
        ("POST", "/send-onchain/commit") => {
            let plan = body["planId"].as_str().unwrap_or_default().to_owned();
            let Some(amount) = state.plans.get(&plan).copied() else {
                return refused(400, "invalid_request", "unknown plan");
            };
            once(state, &format!("commit:{plan}"), |state| {
                state.paid += 1;
                json!({"planId": plan, "amountSats": amount, "feeSats": 40, "txid": sha256_hex(&plan), "paidAtMs": 1_772_020_804_000_i64,
                    "receipt": {"canonicalJsonSha256": sha256_hex(&format!("sent|{plan}"))}})
            })
        }
        _ => refused(404, "not_found", "nothing is served here"),
    }
}

fn once(state: &mut State, id: &str, make: impl FnOnce(&mut State) -> Value) -> Said {
    if let Some(known) = state.done.get(id) {
        return done(&known.clone());
    }
    let made = make(state);
    state.done.insert(id.to_owned(), made.clone());
    done(&made)
}

fn done(result: &Value) -> Said {
    Said::json(200, &json!({"ok": true, "requestId": "r", "result": result}))
}

fn refused(status: u16, code: &str, message: &str) -> Said {
    Said::json(status, &json!({"ok": false, "error": {"requestId": "r", "code": code, "message": message}}))
}

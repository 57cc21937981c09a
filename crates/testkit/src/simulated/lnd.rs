//! SIMULATED LND node over REST: pays a hash once, and says what became of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use oa_contract::canonical::{hex, unhex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    lightning::SimulatedLightning,
    server::{Asked, Said, Server},
};

pub const MACAROON: &str = "0201036c6e64";

/// What it does with the next payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// Pays and cuts the connection.
    PaysAndCuts,
    /// Finds no route, and does not pay.
    NoRoute,
}

struct State {
    mood: Mood,
    /// By the hash as it stands in a path.
    done: HashMap<String, Value>,
    /// By the hash, hex.
    invoices: HashMap<String, Value>,
    sent: Vec<Value>,
    addresses: u32,
}

pub struct SimulatedLnd {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl SimulatedLnd {
    pub async fn start(lightning: SimulatedLightning) -> Self {
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Good,
            done: HashMap::new(),
            invoices: HashMap::new(),
            sent: Vec::new(),
            addresses: 0,
        }));
        let held = state.clone();
        let server = Server::start(move |asked| {
            let said = answer(&asked, &mut locked(&held), &lightning);
            async move { said }
        })
        .await;
        SimulatedLnd { server, state }
    }

    /// What control is told about it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("L402_INVOICE_PAYER", "lnd_rest".into()),
            ("LND_REST_BASE_URL", self.server.url()),
            ("LND_REST_MACAROON_HEX", MACAROON.into()),
        ]
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Somebody pays an invoice of the node's.
    pub fn settle(&self, payment_hash: &str, msats: u64) {
        if let Some(invoice) = locked(&self.state).invoices.get_mut(payment_hash) {
            invoice["state"] = "SETTLED".into();
            invoice["amt_paid_msat"] = msats.to_string().into();
        }
    }

    pub fn become_(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(asked: &Asked, state: &mut State, lightning: &SimulatedLightning) -> Said {
    if asked.header("grpc-metadata-macaroon") != MACAROON {
        return Said::json(401, &json!({"code": 16, "message": "verification failed"}));
    }
    if let Some(hash) = asked.path.strip_prefix("/v2/router/track/") {
        return match state.done.get(hash) {
            Some(done) => Said::json(200, &json!({"result": done})),
            None => Said::json(404, &json!({"error": {"code": 5, "message": "payment isn't initiated"}})),
        };
    }
    if let Some(said) = other(asked, state) {
        return said;
    }
    if asked.path == "/v2/router/send" {
        return router_send(asked, state, lightning);
    }
    if state.mood == Mood::NoRoute {
        return Said::json(200, &json!({"payment_error": "no_route", "payment_preimage": ""}));
    }
    let body = asked.json();
    let Some((preimage, amount)) = lightning.pay(body["payment_request"].as_str().unwrap_or_default()) else {
        return Said::json(400, &json!({"code": 3, "message": "not an invoice"}));
    };
    let hash = Sha256::digest(preimage);
    let done = json!({"status": "SUCCEEDED", "payment_hash": hex(&hash), "payment_preimage": hex(&preimage),
        "value_msat": amount.to_string()});
    state.done.insert(URL_SAFE.encode(hash), done);
    match state.mood {
        Mood::PaysAndCuts => Said::Cut,
        _ => Said::json(
            200,
            &json!({"payment_error": "", "payment_preimage": STANDARD.encode(preimage),
                "payment_hash": STANDARD.encode(hash), "payment_route": {"total_amt_msat": amount.to_string()}}),
        ),
    }
}

/// A stream of documents, the last of which says how it ended; a hash is paid once.
fn router_send(asked: &Asked, state: &mut State, lightning: &SimulatedLightning) -> Said {
    if state.mood == Mood::NoRoute {
        let failed = json!({"result": {"status": "FAILED", "failure_reason": "FAILURE_REASON_NO_ROUTE"}});
        return Said::json(200, &failed);
    }
    let body = asked.json();
    let invoice = body["payment_request"].as_str().unwrap_or_default();
    let known: Option<lightning_invoice::Bolt11Invoice> = invoice.parse().ok();
    let hash = known
        .and_then(|known| unhex::<32>(&known.payment_hash().to_string()))
        .map(|hash| URL_SAFE.encode(hash));
    if hash.is_some_and(|hash| state.done.contains_key(&hash)) {
        return Said::json(409, &json!({"error": {"code": 6, "message": "invoice is already paid"}}));
    }
    let Some((preimage, amount)) = lightning.pay(invoice) else {
        return Said::json(400, &json!({"error": {"code": 3, "message": "not an invoice"}}));
    };
    let hash = Sha256::digest(preimage);
    let done = json!({"status": "SUCCEEDED", "payment_hash": hex(&hash), "payment_preimage": hex(&preimage),
        "value_msat": amount.to_string(), "fee_msat": "9"});
    state.done.insert(URL_SAFE.encode(hash), done.clone());
    match state.mood {
        Mood::PaysAndCuts => Said::Cut,
        _ => {
            let lines = [json!({"result": {"status": "IN_FLIGHT"}}), json!({"result": done})];
            Said::text(200, &lines.map(|line| line.to_string()).join("\n"))
        }
    }
}

/// Everything that pays nothing over Lightning.
fn other(asked: &Asked, state: &mut State) -> Option<Said> {
    let body = asked.json();
    Some(match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/balance/blockchain") => Said::json(200, &json!({"total_balance": "250000"})),
        ("GET", "/v1/balance/channels") => Said::json(200, &json!({"local_balance": {"msat": "7000000"}})),
        ("GET", "/v1/channels") => Said::json(
            200,
            &json!({"channels": [{"capacity": "1000", "local_balance": "400", "active": true},
                {"capacity": "500", "local_balance": "100", "active": false}]}),
        ),
        ("GET", "/v1/newaddress") => {
            state.addresses += 1;
            Said::json(200, &json!({"address": format!("bcrt1qsimulated{}", state.addresses)}))
        }
        ("POST", "/v1/invoices") => {
            let preimage =
                STANDARD.decode(body["r_preimage"].as_str().unwrap_or_default()).unwrap_or_default();
            let hash = hex(&Sha256::digest(preimage));
            if state.invoices.contains_key(&hash) {
                return Some(Said::json(409, &json!({"code": 6, "message": "invoice already exists"})));
            }
            let invoice =
                json!({"payment_request": format!("lnbcrt1simulated{}", &hash[..16]), "state": "OPEN"});
            state.invoices.insert(hash, invoice.clone());
            Said::json(200, &invoice)
        }
        ("GET", path) if path.starts_with("/v1/invoice/") => {
            match state.invoices.get(path.trim_start_matches("/v1/invoice/")) {
                Some(invoice) => Said::json(200, invoice),
                None => Said::json(404, &json!({"code": 5, "message": "unable to locate invoice"})),
            }
        }
        ("GET", "/v1/transactions/fee") => Said::json(200, &json!({"fee_sat": "141"})),
        ("GET", "/v1/transactions") => Said::json(200, &json!({"transactions": state.sent})),
        ("POST", "/v1/transactions") => {
            let txid = hex(&Sha256::digest(body.to_string()));
            state.sent.push(json!({"tx_hash": txid, "label": body["label"], "num_confirmations": 3,
                "output_details": [{"address": body["addr"], "amount": body["amount"]}]}));
            Said::json(200, &json!({"txid": txid}))
        }
        _ => return None,
    })
}

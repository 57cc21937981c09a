//! SIMULATED LND node over REST: pays a hash once, and says what became of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use oa_contract::canonical::hex;
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
}

pub struct SimulatedLnd {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl SimulatedLnd {
    pub async fn start(lightning: SimulatedLightning) -> Self {
        let state = Arc::new(Mutex::new(State { mood: Mood::Good, done: HashMap::new() }));
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

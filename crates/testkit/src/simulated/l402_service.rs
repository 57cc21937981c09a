//! SIMULATED service behind a paywall: asks for a payment, and gives what was paid for to whoever proves it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oa_contract::{
    Timestamp,
    canonical::{hex, unhex},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    lightning::SimulatedLightning,
    server::{Asked, Said, Server},
};

/// How it meets requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Asks for the price, and answers whoever has paid.
    Priced,
    /// Answers everybody.
    Free,
    /// Answers everybody with this status.
    Status(u16),
    /// 402 without a challenge.
    Mute,
    /// 402 with an invoice that is none.
    FalseInvoice,
    /// 402 with an invoice that expired long ago.
    OldInvoice,
    /// Asks for the price, and answers whoever has paid with this status.
    TakesAndRefuses(u16),
    /// Asks for the price, and cuts the connection of whoever has paid.
    TakesAndCuts,
    /// Answers with so many bytes.
    Long(usize),
}

struct State {
    mood: Mood,
    price_msats: u64,
    /// The payment hash of each macaroon.
    sold: HashMap<String, String>,
    served: u32,
    challenged: u32,
    requests: Vec<Asked>,
}

pub struct SimulatedL402Service {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl SimulatedL402Service {
    pub async fn start(lightning: SimulatedLightning, price_msats: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Priced,
            price_msats,
            sold: HashMap::new(),
            served: 0,
            challenged: 0,
            requests: Vec::new(),
        }));
        let held = state.clone();
        let server = Server::start(move |asked| {
            let said = answer(asked, &mut locked(&held), &lightning);
            async move { said }
        })
        .await;
        SimulatedL402Service { server, state }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
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

    pub fn asks(&self, price_msats: u64) {
        locked(&self.state).price_msats = price_msats;
    }

    /// How often it gave what was paid for.
    pub fn served(&self) -> u32 {
        locked(&self.state).served
    }

    /// How often it asked for money.
    pub fn challenged(&self) -> u32 {
        locked(&self.state).challenged
    }

    /// The header of the last request, if there was one.
    pub fn last_header(&self, name: &str) -> Option<String> {
        locked(&self.state).requests.last().map(|asked| asked.header(name).to_owned())
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(asked: Asked, state: &mut State, lightning: &SimulatedLightning) -> Said {
    let proven = proves(&asked, state);
    state.requests.push(asked);
    let good = || Said::json(200, &json!({"ok": true})).with("content-type", "application/json");
    match (state.mood.clone(), proven) {
        (Mood::Free, _) => good(),
        (Mood::Status(status), _) => Said::json(status, &json!({"ok": false})),
        (Mood::Long(bytes), _) => Said::text(200, &"x".repeat(bytes)),
        (Mood::Mute, _) => Said::text(402, "pay"),
        (Mood::TakesAndRefuses(status), true) => Said::json(status, &json!({"ok": false})),
        (Mood::TakesAndCuts, true) => Said::Cut,
        (_, true) => {
            state.served += 1;
            good()
        }
        (mood, false) => challenge(state, lightning, &mood),
    }
}

fn challenge(state: &mut State, lightning: &SimulatedLightning, mood: &Mood) -> Said {
    state.challenged += 1;
    let made_at = match mood {
        Mood::OldInvoice => Timestamp::from_unix_seconds(1_600_000_000),
        _ => Timestamp::from_unix_seconds(1_772_000_000),
    };
    let invoice = match mood {
        Mood::FalseInvoice => format!("lnbc{}n1notaninvoice", state.price_msats / 100),
        _ => lightning.invoice(state.price_msats, made_at),
    };
    let macaroon = format!("bWFjYXJvb24{}", state.challenged);
    if let Ok(parsed) = invoice.parse::<lightning_invoice::Bolt11Invoice>() {
        state.sold.insert(macaroon.clone(), parsed.payment_hash().to_string());
    }
    Said::text(402, "pay first")
        .with("www-authenticate", format!("L402 macaroon=\"{macaroon}\", invoice=\"{invoice}\""))
}

/// Whether the credential proves a payment for the macaroon it carries.
fn proves(asked: &Asked, state: &State) -> bool {
    let credential = asked.header("authorization").strip_prefix("L402 ");
    let Some((macaroon, preimage)) = credential.and_then(|pair| pair.split_once(':')) else { return false };
    let hash = unhex::<32>(preimage).map(|preimage| hex(&Sha256::digest(preimage)));
    hash.is_some() && state.sold.get(macaroon) == hash.as_ref()
}

//! A wallet that does what a test says, and counts what it was asked to pay.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use oa_contract::{Msats, Timestamp, canonical::sha256_hex};
use oa_lightning::{
    About, Balances, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, OnchainOrder, OnchainSent,
    OnchainState, Paid, PayOrder, PaymentRef, PaymentState, ReceiveAddress, Received, Wallet, WalletError,
    bolt11::{self, Network},
    simulated,
};
use serde_json::{Value, json};

/// What it does with payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Good,
    Refuses,
    /// Nobody answers: surely nothing was done.
    Away,
    /// Pays, and says nothing.
    PaysSilently,
    /// Is silent, and has not paid.
    Silent,
}

#[derive(Default)]
struct State {
    mood: Mood,
    down: bool,
    /// By request: what was made, and whether it is settled.
    invoices: HashMap<String, (Invoice, Option<Msats>)>,
    received: HashMap<String, Received>,
    one_address: bool,
    paid: HashMap<String, Paid>,
    sent: HashMap<String, OnchainSent>,
    asked_to_pay: Vec<String>,
    fee: u64,
}

#[derive(Default)]
pub struct TestWallet(Mutex<State>);

impl TestWallet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// What each payment costs, in msats.
    pub fn costs(&self, msats: u64) {
        self.state().fee = msats;
    }

    pub fn breaks(&self, down: bool) {
        self.state().down = down;
    }

    /// From now on there is one address for everybody.
    pub fn shares_addresses(&self) {
        self.state().one_address = true;
    }

    /// Somebody has paid an invoice of ours.
    pub fn settle(&self, bolt11: &str) {
        self.settle_with(bolt11, None);
    }

    pub fn settle_with(&self, bolt11: &str, msats: Option<u64>) {
        let mut state = self.state();
        let made = state.invoices.values_mut().find(|made| made.0.bolt11 == bolt11).expect("an invoice");
        made.1 = Some(msats.and_then(Msats::new).unwrap_or(made.0.amount));
    }

    pub fn receive(&self, address: &str, confirmed_sats: u64, unconfirmed_sats: u64) {
        self.receive_deep(address, confirmed_sats, unconfirmed_sats, 6);
    }

    pub fn receive_deep(
        &self,
        address: &str,
        confirmed_sats: u64,
        unconfirmed_sats: u64,
        confirmations: u32,
    ) {
        let received = Received { confirmed_sats, unconfirmed_sats, confirmations };
        self.state().received.insert(address.into(), received);
    }

    pub fn invoice_of_somebody(&self, name: &str, sats: u64, now: Timestamp) -> String {
        let amount = Msats::new(sats * 1_000).expect("an amount");
        simulated::invoice(Network::Mainnet, name, amount, now, 86_400 * 30).expect("an invoice")
    }

    /// Under which ids it was asked to pay, in order.
    pub fn asked_to_pay(&self) -> Vec<String> {
        self.state().asked_to_pay.clone()
    }

    /// How often money has left it.
    pub fn payments(&self) -> usize {
        let state = self.state();
        state.paid.len() + state.sent.len()
    }
}

impl Wallet for TestWallet {
    fn about(&self) -> About {
        About { face: "simulated", wallet_id: "main".into(), simulated: true, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut state = self.state();
            state.asked_to_pay.push(order.request_id.clone());
            match state.mood {
                Mood::Refuses => return Err(WalletError::not_done("payment_failed", "no route")),
                Mood::Away => return Err(WalletError::not_done("connect_failed", "nobody there")),
                Mood::Silent => return Err(WalletError::unknown("timeout", "no word")),
                Mood::Good | Mood::PaysSilently => {}
            }
            let fee = Msats::new(state.fee.min(order.max_fee.get()));
            let paid = Paid {
                payment_id: Some("p-1".into()),
                preimage: simulated::preimage(&order.invoice),
                amount: Some(order.amount),
                fee,
                paid_at_ms: None,
                receipt_sha256: Some(sha256_hex(&order.request_id)),
                preimage_sha256: None,
                evidence: Some(json!({"result": {"payment": {"paymentId": "p-1"}}})),
            };
            state.paid.insert(order.request_id.clone(), paid.clone());
            match state.mood {
                Mood::PaysSilently => Err(WalletError::unknown("timeout", "no word")),
                _ => Ok(paid),
            }
        })
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        Box::pin(async move {
            let state = self.state();
            if state.mood == Mood::Silent {
                return Err(WalletError::unknown("timeout", "no word"));
            }
            Ok(match state.paid.get(&payment.request_id) {
                Some(paid) => PaymentState::Succeeded(paid.clone()),
                None => PaymentState::NeverHeardOf,
            })
        })
    }

    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.down {
                return Err(WalletError::not_done("connect_failed", "no route"));
            }
            if let Some((made, _)) = state.invoices.get(&order.request_id) {
                return match made.amount == order.amount {
                    true => Ok(made.clone()),
                    false => Err(WalletError::not_done("idempotency_conflict", "another amount")),
                };
            }
            let now = Timestamp::from_unix_seconds(1_772_000_000);
            let bolt11 = simulated::invoice(Network::Mainnet, &order.request_id, order.amount, now, 3_600)
                .expect("one");
            let made = Invoice {
                invoice_hash: bolt11::invoice_hash(&bolt11),
                payment_hash: bolt11::payment_hash(&bolt11),
                bolt11,
                amount: order.amount,
                created_at_ms: None,
                expires_at_ms: None,
                receipt_sha256: None,
            };
            state.invoices.insert(order.request_id.clone(), (made.clone(), None));
            Ok(made)
        })
    }

    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(async move {
            let state = self.state();
            if state.down {
                return Err(WalletError::not_done("connect_failed", "no route"));
            }
            Ok(match state.invoices.get(&invoice.request_id) {
                None => InvoiceState::NeverHeardOf,
                Some((_, None)) => InvoiceState::Open,
                Some((_, Some(received))) => {
                    InvoiceState::Settled { received: *received, settled_at_ms: None }
                }
            })
        })
    }

    fn receive_address<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<ReceiveAddress, WalletError>> {
        Box::pin(async move {
            let shared = self.state().one_address;
            let address =
                if shared { "bc1qshared".to_owned() } else { format!("bc1q{}", sha256_hex(request_id)) };
            Ok(ReceiveAddress { request_id: request_id.into(), address, network: None })
        })
    }

    fn received<'a>(&'a self, address: &'a ReceiveAddress) -> Later<'a, Result<Received, WalletError>> {
        Box::pin(async move { Ok(self.state().received.get(&address.address).copied().unwrap_or_default()) })
    }

    fn send_onchain<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<OnchainSent, WalletError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut state = self.state();
            state.asked_to_pay.push(order.request_id.clone());
            match state.mood {
                Mood::Refuses => return Err(WalletError::not_done("send_refused", "no")),
                Mood::Away => return Err(WalletError::not_done("connect_failed", "nobody there")),
                Mood::Silent => return Err(WalletError::unknown("timeout", "no word")),
                Mood::Good | Mood::PaysSilently => {}
            }
            let sent = OnchainSent {
                txid: "9f".repeat(32),
                fee_sats: Some(40),
                sent_at_ms: None,
                receipt_sha256: Some(sha256_hex(&order.request_id)),
                evidence: None,
            };
            state.sent.insert(order.request_id.clone(), sent.clone());
            match state.mood {
                Mood::PaysSilently => Err(WalletError::unknown("timeout", "no word")),
                _ => Ok(sent),
            }
        })
    }

    fn onchain_payment<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<OnchainState, WalletError>> {
        Box::pin(async move {
            let state = self.state();
            if state.mood == Mood::Silent {
                return Err(WalletError::unknown("timeout", "no word"));
            }
            Ok(state.sent.get(request_id).cloned().map_or(OnchainState::NeverHeardOf, OnchainState::Sent))
        })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async { Ok(Balances::default()) })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async move {
            match self.state().down {
                true => Err(WalletError::not_done("wallet_executor_http_500", "down")),
                false => Ok(json!({"ok": true, "status": {"balanceSats": 252_500}})),
            }
        })
    }
}
